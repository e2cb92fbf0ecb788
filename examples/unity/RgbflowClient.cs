// Sends a camera to `rgbflow serve` and raises an event when an action starts or ends. Not run here.
//
// Needs NativeWebSocket 2 (https://github.com/endel/NativeWebSocket.git#upm-2 in the Package Manager) and Unity 2022.2
// or newer. Not for WebGL, where rgbflow.js does the same. docs/protocol.md has the messages.

using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Threading.Tasks;
using NativeWebSocket;
using UnityEngine;
using UnityEngine.Events;

public class RgbflowClient : MonoBehaviour
{
    [SerializeField] string server = "ws://127.0.0.1:8000/live";
    [SerializeField] string token = ""; // of `rgbflow serve --token-file`
    [SerializeField] int width = 320;
    [SerializeField] int height = 240;
    [SerializeField] int rate = 25; // frames a second

    public UnityEvent<string> onStart; // the action that starts
    public UnityEvent<string> onEnd; // the action that ended
    public UnityEvent<string, float> onUpdate; // the likeliest class and its probability

    // JsonUtility passes over the keys that have no field here.
    [Serializable]
    class Message
    {
        public string type;
        public string kind;
        public string label;
        public float score;
        public string message;
    }

    WebCamTexture webcam;
    Texture2D frame;
    WebSocket socket;
    Task sending = Task.CompletedTask;
    uint number;
    float wait = 0.25f; // seconds until the next attempt to connect

    async void Start()
    {
        webcam = new WebCamTexture(width, height, rate);
        webcam.Play();
        while (this != null)
        {
            socket = Open();
            await socket.Connect(); // returns when the connection has ended
            if (this == null) return;
            await Task.Delay((int)(1000 * wait));
            wait = Mathf.Min(2 * wait, 8);
        }
    }

    WebSocket Open()
    {
        var headers = new Dictionary<string, string>();
        if (token != "") headers["Authorization"] = "Bearer " + token;
        var opened = new WebSocket(server, "rgbflow.v1", headers);
        opened.OnMessage += Receive; // on Unity's main thread
        opened.OnError += text => Debug.LogWarning("rgbflow: " + text);
        return opened;
    }

    void Receive(byte[] bytes)
    {
        var message = JsonUtility.FromJson<Message>(Encoding.UTF8.GetString(bytes));
        switch (message.type)
        {
            case "hello":
                wait = 0.25f;
                break;
            case "update":
                onUpdate.Invoke(message.label, message.score);
                break;
            case "event":
                (message.kind == "start" ? onStart : onEnd).Invoke(message.label);
                break;
            case "notice":
            case "error":
                Debug.LogWarning("rgbflow: " + message.message);
                break;
        }
    }

    void Update()
    {
        var isOpen = socket != null && socket.State == WebSocketState.Open;
        if (!isOpen || !sending.IsCompleted || !webcam.didUpdateThisFrame) return;
        if (frame == null || frame.width != webcam.width || frame.height != webcam.height)
        {
            if (frame != null) Destroy(frame);
            frame = new Texture2D(webcam.width, webcam.height, TextureFormat.RGBA32, false);
        }
        frame.SetPixels32(webcam.GetPixels32());
        number++;
        sending = socket.Send(Pack(number, Time.realtimeSinceStartupAsDouble, frame.EncodeToJPG(85)));
    }

    // 16 bytes of header, little-endian as BinaryWriter always writes, then the picture.
    static byte[] Pack(uint number, double seconds, byte[] picture)
    {
        using var stream = new MemoryStream(16 + picture.Length);
        using var writer = new BinaryWriter(stream);
        writer.Write((uint)number);
        writer.Write((uint)0);
        writer.Write((double)seconds);
        writer.Write(picture);
        writer.Flush();
        return stream.ToArray();
    }

    void OnDestroy()
    {
        if (webcam != null) webcam.Stop();
        if (frame != null) Destroy(frame);
        socket?.CancelConnection();
    }
}
