// One view: takes its motion JPEG apart, draws the newest picture, and says when none comes.

const SILENCE_MS = 2000; // a picture that is older is called so
const STALL_MS = 6000; // a connection that gives nothing for so long is made anew: the network may have changed
const RETRY_MS = [250, 3000]; // first and longest wait before it is made again

export class Stream {
  constructor(view) {
    this.view = view;
    this.shownAt = null; // when the picture that is shown came to the server, on our clock
    this.waitingSince = performance.now();
    this.stopper = null;
    this.drawing = false;
    this.build();
  }

  build() {
    this.figure = document.createElement("figure");
    this.canvas = document.createElement("canvas");
    this.canvas.width = 640;
    this.canvas.height = 480;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `live picture: ${this.view}`);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.silence = document.createElement("div");
    this.silence.className = "silence";
    this.silence.hidden = true;
    const caption = document.createElement("figcaption");
    caption.textContent = this.view;
    this.figure.append(this.canvas, caption, this.silence);
    this.figure.hidden = true;
  }

  // Watch or not: what is not watched is not sent, and not encoded.
  watch(wanted) {
    if (wanted && !this.stopper) {
      this.stopper = new AbortController();
      this.waitingSince = performance.now();
      this.follow(this.stopper.signal);
    } else if (!wanted && this.stopper) {
      this.stopper.abort();
      this.stopper = null;
    }
  }

  async follow(stop) {
    let wait = RETRY_MS[0];
    while (!stop.aborted) {
      const before = this.shownAt;
      await this.receive(stop);
      wait = this.shownAt === before ? Math.min(2 * wait, RETRY_MS[1]) : RETRY_MS[0];
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  // One connection, until it ends, fails or stalls.
  async receive(stop) {
    const attempt = new AbortController();
    const give_up = () => attempt.abort();
    stop.addEventListener("abort", give_up);
    let stalled = setTimeout(give_up, STALL_MS);
    try {
      const answer = await fetch(`/stream/${this.view}.mjpg`, { signal: attempt.signal, cache: "no-store" });
      if (!answer.ok) return;
      const reader = answer.body.getReader();
      const parts = new Parts((picture, waited) => this.draw(picture, waited));
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(stalled);
        stalled = setTimeout(give_up, STALL_MS);
        parts.add(value);
      }
    } catch {
      // stopped, or the server is gone: what follows is the same
    } finally {
      clearTimeout(stalled);
      stop.removeEventListener("abort", give_up);
      attempt.abort();
    }
  }

  async draw(picture, waited_ms) {
    if (this.drawing) return; // this machine is slower than the line
    this.drawing = true;
    try {
      const image = await createImageBitmap(new Blob([picture], { type: "image/jpeg" }));
      if (this.canvas.width !== image.width || this.canvas.height !== image.height) {
        this.canvas.width = image.width;
        this.canvas.height = image.height;
      }
      this.context.drawImage(image, 0, 0);
      image.close();
      this.shownAt = performance.now() - waited_ms;
    } catch {
      // a picture that is no picture; the next one is
    } finally {
      this.drawing = false;
    }
  }

  // Called a few times a second.
  tell() {
    const since = performance.now() - (this.shownAt ?? this.waitingSince);
    const silent = since > SILENCE_MS;
    this.figure.classList.toggle("silent", silent);
    this.silence.hidden = !silent;
    if (silent) this.silence.textContent = `no picture for ${Math.floor(since / 1000)} s`;
  }
}

// Bytes of multipart/x-mixed-replace in, pictures out.
class Parts {
  constructor(take) {
    this.take = take;
    this.bytes = new Uint8Array(0);
  }

  add(more) {
    const joined = new Uint8Array(this.bytes.length + more.length);
    joined.set(this.bytes);
    joined.set(more, this.bytes.length);
    this.bytes = joined;
    while (this.next());
  }

  // Takes one whole part off the front; whether there was one.
  next() {
    const end = this.headEnd();
    if (end < 0) return false;
    const head = new TextDecoder("latin1").decode(this.bytes.subarray(0, end));
    const length = Number(/content-length: *(\d+)/i.exec(head)?.[1]);
    if (!(length > 0)) throw new Error("a part without its length");
    if (this.bytes.length < end + length) return false;
    const waited = Number(/x-waited-ms: *(\d+)/i.exec(head)?.[1] ?? 0);
    this.take(this.bytes.slice(end, end + length), waited);
    this.bytes = this.bytes.slice(end + length);
    return true;
  }

  // Where the empty line behind the head ends; -1 if it has not come yet. The head is short.
  headEnd() {
    const most = Math.min(this.bytes.length - 3, 1024);
    for (let at = 2; at < most; at++) {
      const b = this.bytes;
      if (b[at] === 13 && b[at + 1] === 10 && b[at + 2] === 13 && b[at + 3] === 10) return at + 4;
    }
    return -1;
  }
}
