// An AudioWorklet that hands on what is heard, in pieces of 2,048 samples.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(2048);
    this.filled = 0;
  }

  process([input]) {
    const heard = input[0] ?? new Float32Array(128); // a source that has ended gives nothing: silence
    for (const sample of heard) {
      this.piece[this.filled++] = sample;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("capture", Capture);
