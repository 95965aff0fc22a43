// A scrolling spectrogram, and the curve of decisions beneath it.
export function spectrogram(canvas, analyser) {
  const context = canvas.getContext("2d");
  const bins = new Uint8Array(analyser.frequencyBinCount);
  return () => {
    const { width, height } = canvas;
    context.drawImage(canvas, -1, 0);
    analyser.getByteFrequencyData(bins);
    for (let y = 0; y < height; y++) {
      const low = Math.floor(bins.length * 0.67 * (1 - (y + 1) / height)); // up to 8 kHz, which the agent hears
      const level = bins[low] / 255;
      context.fillStyle = `hsl(${250 - 210 * level} 80% ${60 * level}%)`;
      context.fillRect(width - 1, y, 1, 1);
    }
  };
}

export function curve(canvas, points, threshold) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const step = 6;
  const shown = points.slice(-Math.floor(width / step));
  context.clearRect(0, 0, width, height);
  context.fillStyle = "#4a5664";
  context.fillRect(0, height * (1 - threshold), width, 1);
  shown.forEach(({ probability, speaks }, i) => {
    const x = width - (shown.length - i) * step;
    const p = probability ?? 1;
    context.fillStyle = speaks ? "#f6ad55" : "#63b3ed";
    context.globalAlpha = probability === null ? 0.3 : 1;
    context.fillRect(x, height * (1 - p), step - 1, Math.max(height * p, 2));
    context.globalAlpha = 1;
  });
}
