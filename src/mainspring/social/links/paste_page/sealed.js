// Opens a sealed paste in the browser: asks for its cipher text after a click, and decrypts it with the key in the fragment.
// The key goes into WebCrypto and nowhere else: no request carries it, and nothing is put into the page but as text.
"use strict";

const INFLATED_BYTES_MAX = 64 * 1024 * 1024;
const VERIFIER_INFO = "mainspring paste verifier 1";
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

const element = (id) => document.getElementById(id);
const utf8 = (text) => new TextEncoder().encode(text);
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

const id = (/^\?(?:pasteid=)?([0-9a-f]{16})(?:[=&]|$)/.exec(location.search) || [])[1];
let key = null;
let about = null;
let envelope = null;

function fromBase58(text) {
  let number = 0n;
  for (const letter of text) {
    const digit = BASE58.indexOf(letter);
    if (digit < 0) throw new Error("The key in the address is not complete.");
    number = number * 58n + BigInt(digit);
  }
  const digits = number.toString(16);
  const bytes = digits.length % 2 ? "0" + digits : digits;
  // A key has 32 bytes; zeros at its start are not written.
  return Uint8Array.from(bytes.padStart(64, "0").match(/../g), (pair) => parseInt(pair, 16));
}

function concatenated(...arrays) {
  const joined = new Uint8Array(arrays.reduce((length, array) => length + array.length, 0));
  let place = 0;
  for (const array of arrays) {
    joined.set(array, place);
    place += array.length;
  }
  return joined;
}

async function answered(address, options) {
  const response = await fetch(address, { cache: "no-store", credentials: "same-origin", ...options });
  const answer = await response.json();
  if (!response.ok || answer.status === 1) throw new Error(answer.message || answer.detail || answer.title);
  return answer;
}

function posted(address, body) {
  return answered(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

// Shows that the key is known without showing the key: an HMAC of the server's nonce under what HKDF makes of it.
async function proof(nonce) {
  const material = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveKey"]);
  const verifier = await crypto.subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: utf8(VERIFIER_INFO) },
    material,
    { name: "HMAC", hash: "SHA-256", length: 256 },
    false,
    ["sign"],
  );
  return hex(await crypto.subtle.sign("HMAC", verifier, utf8(`reveal\n${id}\n${nonce}`)));
}

async function received() {
  if (!about.proof) return answered(`/?${id}`, { headers: { "x-requested-with": "JSONHttpRequest" } });
  const { nonce } = await posted(`/pastes/${id}/challenge`, {});
  return posted(`/pastes/${id}/reveal`, { nonce, mac: await proof(nonce) });
}

async function decrypted(cipher, adata, ct, password) {
  const [iv, salt, iterations, keyBits, tagBits, algorithm, mode, compression] = cipher;
  if (algorithm !== "aes" || mode !== "gcm") throw new Error("It is sealed in a way that this page cannot open.");
  const material = await crypto.subtle.importKey("raw", concatenated(key, utf8(password)), "PBKDF2", false, ["deriveKey"]);
  const opener = await crypto.subtle.deriveKey(
    { name: "PBKDF2", hash: "SHA-256", salt: fromBase64(salt), iterations },
    material,
    { name: "AES-GCM", length: keyBits },
    false,
    ["decrypt"],
  );
  const parameters = {
    name: "AES-GCM",
    iv: fromBase64(iv),
    additionalData: utf8(JSON.stringify(adata)),
    tagLength: tagBits,
  };
  const plain = new Uint8Array(await crypto.subtle.decrypt(parameters, opener, fromBase64(ct)));
  return JSON.parse(new TextDecoder().decode(compression === "zlib" ? await inflated(plain) : plain));
}

// What was deflated may become a thousand times larger: it is cut off before the browser runs out of memory.
async function inflated(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const pieces = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concatenated(...pieces);
    length += value.length;
    if (length > INFLATED_BYTES_MAX) {
      await reader.cancel();
      throw new Error("It is larger than this page opens.");
    }
    pieces.push(value);
  }
}

function say(text) {
  element("state").textContent = text;
}

function addFile(url, name) {
  const [head, data] = url.split(",", 2);
  if (!head.startsWith("data:") || !head.endsWith(";base64")) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([fromBase64(data)], { type: "application/octet-stream" }));
  link.download = name;
  link.textContent = name;
  const item = document.createElement("li");
  item.append(link);
  element("files").append(item);
}

async function addComment(comment, password) {
  const { nickname, comment: text } = await decrypted(comment.adata, comment.adata, comment.ct, password);
  const shown = document.createElement("article");
  const head = document.createElement("h3");
  head.textContent = `${nickname || "Anonymous"}, ${new Date(comment.meta.created * 1000).toLocaleString()}`;
  const body = document.createElement("pre");
  body.className = "paste";
  body.textContent = text;
  shown.append(head, body);
  element("comments").append(shown);
  element("comments").hidden = false;
}

async function open(event) {
  event.preventDefault();
  element("button").disabled = true;
  say("Opening …");
  const password = element("password").value;
  try {
    // Kept over a wrong password: it may have been its only reading.
    envelope = envelope || (await received());
    let content;
    try {
      content = await decrypted(envelope.adata[0], envelope.adata, envelope.ct, password);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      element("ask").hidden = false;
      element("password").focus();
      say(password ? "That password does not open it." : "It has a password, or its address is not complete.");
      return;
    }
    element("text").textContent = content.paste;
    const names = [content.attachment_name ?? []].flat();
    [content.attachment ?? []].flat().forEach((url, place) => addFile(url, names[place] || "attachment"));
    for (const comment of envelope.comments || []) await addComment(comment, password);
    element("open").hidden = true;
    element("shown").hidden = false;
    say(about.reads_left === 1 ? "It is gone from the server: this is the only copy." : "Opened in your browser.");
  } catch (error) {
    say(error.message);
  } finally {
    element("button").disabled = false;
  }
}

async function start() {
  try {
    // "-" asks for a click first, which this page does anyway; "&" is where some programs add their own words.
    const fragment = location.hash.slice(1).replace(/^-/, "").split("&")[0];
    if (!id || !fragment) throw new Error("The address is not complete: its key stands behind a # sign.");
    if (!crypto.subtle) throw new Error("Browsers decrypt only on pages that came over https, or from this machine.");
    key = fromBase58(fragment);
    about = await answered(`/pastes/${id}/about`);
    if (about.reads_left !== null) {
      say(about.reads_left === 1 ? "It can be read once, and is destroyed by that." : `It can be read ${about.reads_left} times.`);
    }
    element("open").addEventListener("submit", open);
    element("open").hidden = false;
  } catch (error) {
    say(error.message);
  }
}

start();
