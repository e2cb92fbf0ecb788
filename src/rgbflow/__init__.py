"""rgbflow: two-stream action recognition, from a video to a label.

Shapes are written with these letters everywhere:

    B batch      S segments (snippets) of a clip      L flow fields in a snippet (stack_length)
    T frames     C channels     H, W height, width     K classes     N clips
"""
