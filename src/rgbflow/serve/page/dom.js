/** Elements from plain descriptions: `make("p", {className: "soft"}, "text", other)`. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A name of a class as it is read. */
export const plain = (name) => name.replaceAll("_", " ");

/** What a failed answer says, in words. */
export async function reasonOf(response) {
  try {
    const body = await response.json();
    const detail = body.detail ?? body.error ?? body.message;
    if (typeof detail === "string") return detail;
  } catch {
    // not JSON: the status has to do
  }
  return `The server answered ${response.status} ${response.statusText}`.trim();
}
