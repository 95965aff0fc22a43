// The Realtime protocol, as far as this page speaks it.
export const RATE = 24000;

export function encode(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((s, i) => bytes.setInt16(2 * i, Math.max(-1, Math.min(1, s)) * 32767, true));
  return btoa(String.fromCharCode(...new Uint8Array(bytes.buffer)));
}

export function connect(key, onEvent, onClose) {
  const protocols = ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])];
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/realtime`, protocols);
  socket.onmessage = (message) => onEvent(JSON.parse(message.data));
  socket.onclose = (close) => onClose(close.code);
  return {
    send: (type, fields = {}) => socket.readyState === 1 && socket.send(JSON.stringify({ type, ...fields })),
    close: () => socket.close(),
  };
}
