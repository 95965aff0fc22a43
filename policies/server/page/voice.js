// Plays what the agent says, piece after piece, until it has said it or somebody talks over it.
import { RATE } from "./protocol.js";

export class Voice {
  constructor(audio) {
    this.audio = audio;
    this.queue = new Set(); // what is being played, and what comes after it
    this.end = 0; // of the last of it, by the audio's clock
  }

  play(samples) {
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: RATE });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.audio, { buffer });
    source.connect(this.audio.destination);
    this.queue.add(source);
    source.onended = () => this.queue.delete(source);
    this.end = Math.max(this.end, this.audio.currentTime);
    source.start(this.end);
    this.end += buffer.duration;
  }

  stop() {
    this.queue.forEach((source) => source.stop());
    this.end = 0;
  }
}
