// The Realtime protocol, as far as this page speaks it.
export const RATE = 24000;

export function encode(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((s, i) => bytes.setInt16(2 * i, Math.max(-1, Math.min(1, s)) * 32767, true));
  return btoa(String.fromCharCode(...new Uint8Array(bytes.buffer)));
}

export function decode(base64) {
  const bytes = new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  return Float32Array.from({ length: bytes.byteLength / 2 }, (_, i) => bytes.getInt16(2 * i, true) / 32768);
}

// Resolves when the session is there; `onEnd` is told why it has ended, unless `signal` has ended it.
export function connect(key, signal, onEvent, onEnd) {
  if (!/^[\w!#$%&'*+.^`|~-]*$/.test(key)) throw new Error("browsers send keys of letters, digits and -._~ alone");
  const protocols = ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])];
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/realtime`, protocols);
  const send = (type, fields) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type, ...fields }));
  signal.addEventListener("abort", () => socket.close());
  return new Promise((resolve) => {
    let reason = `not let in: does the server run, is the key right, and is ${location.origin} allowed?`;
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      reason = event.type === "error" ? event.error.message : "the connection was lost"; // it may be the last
      if (event.type === "session.created") resolve({ send });
      onEvent(event);
    };
    socket.onclose = ({ code }) => onEnd(code === 1012 ? "the server stops: connect again" : reason);
  });
}
