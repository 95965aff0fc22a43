// What is heard and what is decided, one above the other on the same seconds.
const CHUNK_S = 0.4;
const WIDTH_PER_S = 30; // CSS pixels
const TICK_S = 5;
const FOOT = 18; // CSS pixels, for the seconds
const PALETTE = Array.from({ length: 256 }, (_, i) => `hsl(${250 - (210 * i) / 255} 80% ${(60 * i) / 255}%)`);

// Fits a canvas to its place on the screen; what was drawn stays at its right edge.
function fit(canvas) {
  const { width, height } = canvas;
  const [newWidth, newHeight] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.round(n * devicePixelRatio));
  if (!newWidth || (width === newWidth && height === newHeight)) return;
  const copy = new OffscreenCanvas(width, height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  [canvas.width, canvas.height] = [newWidth, newHeight];
  canvas.getContext("2d").drawImage(copy, newWidth - width, 0, width, newHeight);
}

export class Plots {
  constructor(spectrogram, decisions, threshold) {
    [this.spectrogram, this.decisions, this.threshold] = [spectrogram, decisions, threshold];
    this.clear();
    new ResizeObserver(() => {
      fit(spectrogram);
      fit(decisions);
      this.drawDecisions();
    }).observe(spectrogram);
  }

  clear() {
    this.seconds = 0;
    this.chunks = [];
    this.spectrogram.getContext("2d").clearRect(0, 0, this.spectrogram.width, this.spectrogram.height);
  }

  add(chunk) {
    this.chunks.push(chunk);
    this.chunks.splice(0, this.chunks.length - 1000);
  }

  // Move on to so many seconds of the stream.
  draw(analyser, seconds) {
    const perSecond = WIDTH_PER_S * devicePixelRatio;
    const columns = Math.floor(seconds * perSecond) - Math.floor(this.seconds * perSecond);
    this.seconds = seconds;
    if (columns > 0) this.drawSpectrum(analyser, columns);
    this.drawDecisions();
  }

  drawSpectrum(analyser, columns) {
    const { width, height } = this.spectrogram;
    const context = this.spectrogram.getContext("2d");
    const bins = new Uint8Array(analyser.frequencyBinCount);
    analyser.getByteFrequencyData(bins);
    const heard = bins.subarray(0, Math.round((bins.length * 8000) / (analyser.context.sampleRate / 2))); // by the agent
    context.globalCompositeOperation = "copy";
    context.drawImage(this.spectrogram, -columns, 0);
    context.globalCompositeOperation = "source-over";
    const wide = Math.min(columns, 8); // where the page was hidden for long, nothing is known
    for (let y = 0; y < height; y++) {
      const low = Math.floor(heard.length * (1 - (y + 1) / height));
      const high = Math.max(low + 1, Math.floor(heard.length * (1 - y / height)));
      context.fillStyle = PALETTE[Math.max(...heard.subarray(low, high))];
      context.fillRect(width - wide, y, wide, 1);
    }
  }

  drawDecisions() {
    const context = this.decisions.getContext("2d");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    const { clientWidth: width, clientHeight } = this.decisions;
    const height = clientHeight - FOOT;
    const x = (seconds) => width - (this.seconds - seconds) * WIDTH_PER_S;
    context.clearRect(0, 0, width, clientHeight);
    for (const { index, probability, speaks } of this.chunks) {
      const p = probability ?? 1;
      context.fillStyle = speaks ? "#f6ad55" : "#63b3ed";
      context.globalAlpha = probability === null ? 0.3 : 1;
      context.fillRect(x(index * CHUNK_S), height * (1 - p), CHUNK_S * WIDTH_PER_S - 1, Math.max(height * p, 2));
    }
    context.globalAlpha = 1;
    context.fillStyle = "#e2e8f0";
    context.fillRect(0, Math.min(height * (1 - this.threshold()), height - 1), width, 1);
    context.fillStyle = "#8b99a8";
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    for (let tick = Math.floor(this.seconds / TICK_S) * TICK_S; tick >= 0 && x(tick) > 16; tick -= TICK_S) {
      context.fillRect(x(tick), height, 1, 4);
      if (x(tick) < width - 16) context.fillText(`${tick} s`, x(tick), clientHeight - 3);
    }
  }
}
