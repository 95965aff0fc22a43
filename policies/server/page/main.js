// Hears the microphone or a file, sends it, and shows what the agent decides.
import { RATE, connect, decode, encode } from "./protocol.js";
import { Plots } from "./plots.js";
import { Voice } from "./voice.js";

const $ = (id) => document.getElementById(id);
const threshold = () => Number($("threshold").value);
const modality = () => ($("speak").checked ? "audio" : "text");
const settings = () => ({ session: { output_modalities: [modality()], soundflow: { threshold: threshold() } } });
const ms = (value) => `${value.toFixed(1)} ms`;
const plots = new Plots($("spectrogram"), $("decisions"), threshold);
let stop = () => {};
let connection = null;
let voice = null;
let listening = "listening";

function say(state, kind = "") {
  $("state").textContent = state;
  $("state").className = kind;
}

function decided(event) {
  const { chunk_index: index, probability, decision_latency_ms: latency, first_token_latency_ms: first } = event;
  plots.add({ index, probability, speaks: event.type === "response.speak" });
  if (probability !== null) $("p").textContent = probability.toFixed(2);
  if (latency !== null) $("latency").textContent = ms(latency);
  if (first !== null) $("first").textContent = ms(first);
}

function handle(event) {
  if (event.type === "response.listen" || event.type === "response.speak") {
    decided(event);
  } else if (event.type === "response.output_item.added") {
    const [reply, time] = [document.createElement("li"), document.createElement("time")];
    time.textContent = `${(0.4 * (plots.chunks.at(-1).index + 1)).toFixed(1)} s`;
    reply.append(time, document.createElement("span"));
    $("replies").prepend(reply);
    say("speaking", "speaks");
  } else if (["response.output_text.delta", "response.output_audio_transcript.delta"].includes(event.type)) {
    $("replies").firstChild.lastChild.textContent += event.delta;
  } else if (event.type === "response.output_audio.delta") {
    voice.play(decode(event.delta));
  } else if (event.type === "response.done") {
    if (event.response.status !== "completed") voice.stop();
    say(listening, "live");
  } else if (event.type === "error") {
    say(event.error.message, "error");
    if (event.error.code === "speech_not_installed") {
      $("speak").checked = false;
      connection?.send("session.update", settings()); // nothing of the last one was taken
    }
  }
}

// Listen to what `open` returns, a source of an `AudioContext`, until somebody stops it or the session ends.
async function start(name, open) {
  stop("");
  const ending = new AbortController();
  const { signal } = ending;
  const keep = (close) => (signal.aborted ? close() : signal.addEventListener("abort", close));
  const end = (why, kind) => {
    if (signal.aborted) return;
    ending.abort();
    connection = null;
    $("stop").disabled = true;
    say(why, kind);
  };
  stop = end;
  $("stop").disabled = false;
  say("connecting");
  try {
    const audio = new AudioContext({ sampleRate: RATE });
    keep(() => audio.close());
    await audio.audioWorklet.addModule("/page/capture.js");
    const source = await open(audio, keep);
    if (signal.aborted) return;
    const mine = await connect($("key").value, signal, handle, (why) => end(why, "error"));
    if (signal.aborted) return;
    [connection, voice] = [mine, new Voice(audio)];
    connection.send("session.update", settings());
    show(audio, source, signal);
    listening = `listening to ${name}`;
    const told = () => say(audio.state === "running" ? listening : "click anywhere to begin", "live");
    audio.onstatechange = () => signal.aborted || told();
    document.addEventListener("click", () => audio.resume(), { signal }); // browsers want a hand first
    source.onended = () => signal.aborted || say((listening = `${name} is over; listening to silence`), "live");
    source.start?.();
    told();
  } catch (error) {
    end(`${name}: ${error.message}`, "error");
  }
}

// Send and draw what a source gives.
function show(audio, source, signal) {
  const analyser = new AnalyserNode(audio, { fftSize: 1024, smoothingTimeConstant: 0 });
  const capture = new AudioWorkletNode(audio, "capture", { channelCount: 1, channelCountMode: "explicit" });
  source.connect(analyser).connect(capture);
  let begun = null;
  plots.clear();
  capture.port.onmessage = ({ data }) => {
    begun ??= audio.currentTime - data.length / RATE;
    if (!signal.aborted) connection.send("input_audio_buffer.append", { audio: encode(data) });
  };
  const frame = () => {
    if (signal.aborted) return;
    if (begun !== null) plots.draw(analyser, audio.currentTime - begun);
    requestAnimationFrame(frame);
  };
  frame();
}

function fromFile(file) {
  return start(file.name, async (audio) => {
    const buffer = await audio.decodeAudioData(await file.arrayBuffer());
    const source = new AudioBufferSourceNode(audio, { buffer });
    source.connect(audio.destination);
    return source; // silence follows its end, and the agent goes on listening
  });
}

function fromMicrophone() {
  return start("the microphone", async (audio, keep) => {
    const echoCancellation = $("speak").checked; // else the agent would hear itself
    const processing = { echoCancellation, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: processing });
    keep(() => stream.getTracks().forEach((track) => track.stop()));
    return new MediaStreamAudioSourceNode(audio, { mediaStream: stream });
  });
}

$("microphone").onclick = fromMicrophone;
$("file").onchange = ({ target }) => {
  if (target.files[0]) fromFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
$("stop").onclick = () => stop("stopped");
$("threshold").oninput = () => {
  $("threshold-value").textContent = threshold().toFixed(2);
  plots.drawDecisions();
};
$("threshold").onchange = $("speak").onchange = () => connection?.send("session.update", settings());
window.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
window.ondragleave = ({ relatedTarget }) => relatedTarget ?? document.body.classList.remove("over");
window.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) fromFile(event.dataTransfer.files[0]);
};
if (!isSecureContext) {
  say("browsers give sound only to pages from localhost or by https; open one of those", "error");
  $("microphone").disabled = $("file").disabled = true;
}
