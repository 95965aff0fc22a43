// Hears the microphone or a file, sends it, and shows what the agent decides.
import { RATE, connect, encode } from "./protocol.js";
import { curve, spectrogram } from "./plots.js";

const $ = (id) => document.getElementById(id);
const points = [];
let stop = () => {};

function say(state) {
  $("state").textContent = state;
}

function threshold() {
  return Number($("threshold").value);
}

function settings() {
  return { session: { soundflow: { threshold: threshold() } } };
}

function ms(value) {
  return value === null ? "–" : `${value.toFixed(1)} ms`;
}

function handle(event) {
  if (event.type === "response.listen" || event.type === "response.speak") {
    points.push({ probability: event.probability, speaks: event.type === "response.speak" });
    points.splice(0, points.length - 1000);
    curve($("probability"), points, threshold());
    if (event.probability !== null) $("p").textContent = event.probability.toFixed(2);
    if (event.decision_latency_ms !== null) $("latency").textContent = ms(event.decision_latency_ms);
    if (event.first_token_latency_ms !== null) $("first").textContent = ms(event.first_token_latency_ms);
  } else if (event.type === "response.output_item.added") {
    $("replies").prepend(document.createElement("li"));
  } else if (event.type === "response.output_text.delta") {
    $("replies").firstChild.textContent += event.delta;
  } else if (event.type === "error") {
    say(`${event.error.code}: ${event.error.message}`);
  }
}

async function start(open) {
  stop();
  const audio = new AudioContext({ sampleRate: RATE });
  const tracks = [];
  let connection = null;
  let timer = 0;
  stop = () => {
    cancelAnimationFrame(timer);
    connection?.close();
    tracks.forEach((track) => track.stop());
    audio.close();
    $("stop").disabled = true;
    stop = () => {};
  };
  try {
    await audio.audioWorklet.addModule("/page/capture.js");
    const source = await open(audio, tracks);
    const analyser = new AnalyserNode(audio, { fftSize: 1024, smoothingTimeConstant: 0 });
    const capture = new AudioWorkletNode(audio, "capture");
    source.connect(analyser).connect(capture);
    const mine = connect($("key").value, (event) => {
      if (event.type === "session.created") {
        mine.send("session.update", settings());
        say("listening");
      }
      handle(event);
    }, (code) => {
      if (connection === mine) {
        stop();
        say(`closed (${code})`);
      }
    });
    connection = mine;
    capture.port.onmessage = ({ data }) => connection.send("input_audio_buffer.append", { audio: encode(data) });
    $("threshold").onchange = () => connection.send("session.update", settings());
    const draw = spectrogram($("spectrogram"), analyser);
    const frame = () => {
      draw();
      timer = requestAnimationFrame(frame);
    };
    frame();
    $("stop").disabled = false;
    await audio.resume();
  } catch (error) {
    stop();
    say(error.message);
  }
}

function fromFile(file) {
  return start(async (audio) => {
    const buffer = await audio.decodeAudioData(await file.arrayBuffer());
    const source = new AudioBufferSourceNode(audio, { buffer });
    source.connect(audio.destination);
    source.start(); // silence follows its end, and the agent goes on listening
    return source;
  });
}

$("microphone").onclick = () =>
  start(async (audio, tracks) => {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    tracks.push(...stream.getTracks());
    return new MediaStreamAudioSourceNode(audio, { mediaStream: stream });
  });
$("file").onchange = ({ target }) => target.files[0] && fromFile(target.files[0]);
$("stop").onclick = () => {
  stop();
  say("stopped");
};
$("threshold").oninput = () => {
  $("threshold-value").textContent = threshold().toFixed(2);
  curve($("probability"), points, threshold());
};
document.body.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.body.ondragleave = () => document.body.classList.remove("over");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) fromFile(event.dataTransfer.files[0]);
};
