// A bookshop built on the unmodified SDK, served by its own express adapter.
//
// Environment: TRIGGER_API_KEY, TRIGGER_API_URL, TRIGGER_CLIENT_ID, PORT (0 takes a free port), BOOKSHOP_VERBOSE=1.
// Once it listens it prints one line: "bookshop listening on <endpoint url>".
"use strict";

const express = require("express");
const { z } = require("zod");
const { createMiddleware } = require("@trigger.dev/express");
const {
  DynamicSchedule,
  DynamicTrigger,
  ExternalSource,
  ExternalSourceTrigger,
  TriggerClient,
  cronTrigger,
  eventTrigger,
  intervalTrigger,
} = require("@trigger.dev/sdk");

const client = new TriggerClient({
  id: process.env.TRIGGER_CLIENT_ID || "bookshop",
  apiKey: process.env.TRIGGER_API_KEY || "tr_dev_Bookshop0000000000Aa",
  apiUrl: process.env.TRIGGER_API_URL || "http://127.0.0.1:3030",
  verbose: process.env.BOOKSHOP_VERBOSE === "1",
});

// An event with a schema and a filter; the run logs, retries a task, waits and sends an event of its own.
client.defineJob({
  id: "book-sold",
  name: "Book sold",
  version: "1.4.0",
  trigger: eventTrigger({
    name: "book.sold",
    schema: z.object({ isbn: z.string(), copies: z.number(), shelf: z.string().optional() }),
    filter: { shelf: ["fiction", "poetry"], copies: [{ $gte: 1 }] },
  }),
  run: async (payload, io, context) => {
    await io.logger.info("A sale", { isbn: payload.isbn });
    const stock = await io.runTask(
      "take-from-stock",
      async (task) => {
        if (task.attempts < 2) {
          throw new Error(`the shelf is locked (attempt ${task.attempts})`);
        }
        return { taken: payload.copies };
      },
      {
        name: "Take from stock",
        icon: "book",
        params: { isbn: payload.isbn },
        properties: [{ label: "ISBN", text: payload.isbn }],
        retry: { limit: 3, factor: 1, minTimeoutInMs: 100, randomize: false },
      },
    );
    await io.wait("let-the-ink-dry", 1);
    const sent = await io.sendEvent("tell-the-ledger", { name: "book.counted", payload: { isbn: payload.isbn } });
    return { stock, eventId: sent.id, runId: context.run.id, isTest: context.run.isTest };
  },
});

// Several event names for one job; `payload.act` chooses what the run does.
const acts = {
  fail: async () => {
    throw new RangeError("the page is blank");
  },
  nothing: async () => undefined,
  fetch: async (io) =>
    io.backgroundFetch(
      "ask-the-printer",
      "http://127.0.0.1:9/pages",
      { method: "POST", body: "{}" },
      { retry: { "5xx": { strategy: "backoff", limit: 2 } } },
    ),
  failingTask: async (io) =>
    io.runTask(
      "torn",
      async () => {
        throw new Error("torn in two");
      },
      { name: "Torn" },
    ),
  emptyTask: async (io) => ({ got: (await io.runTask("empty", async () => {}, { name: "Empty" })) ?? null }),
  nested: async (io) =>
    io.runTask(
      "chapter",
      async () => {
        await io.logger.debug("inside a chapter");
        return io.runTask(["page", 1], async () => "read", { name: "Page", style: { style: "minimal" } });
      },
      { name: "Chapter" },
    ),
  caught: async (io) =>
    io.try(
      async () =>
        io.runTask(
          "fragile",
          async () => {
            throw new Error("dropped");
          },
          { name: "Fragile" },
        ),
      async (error) => ({ caught: error.message }),
    ),
  send: async (io) => (await io.sendEvent("bare", { name: "book.mentioned" })).id,
};
client.defineJob({
  id: "reading-room",
  name: "Reading room",
  version: "1.0.0",
  trigger: eventTrigger({ name: ["reader.came", "reader.left"] }),
  run: async (payload, io) => (acts[payload.act] ? acts[payload.act](io) : { act: payload.act ?? null }),
});

client.defineJob({
  id: "closed-department",
  name: "Closed department",
  version: "0.2.0",
  enabled: false,
  trigger: eventTrigger({ name: "department.opened" }),
  run: async () => "never",
});

client.defineJob({
  id: "nightly-count",
  name: "Nightly count",
  version: "2.0.1",
  trigger: cronTrigger({ cron: "30 2 * * *" }),
  run: async (payload) => ({ at: payload.ts, before: payload.lastTimestamp ?? null }),
});

client.defineJob({
  id: "till-check",
  name: "Till check",
  version: "1.0.0",
  trigger: intervalTrigger({ seconds: 120 }),
  run: async (payload) => ({ at: payload.ts }),
});

// A source of our own over HTTP: a courier that reports parcels. Used by a job and by a dynamic trigger.
const courier = {
  id: "courier",
  authSource: "LOCAL",
  metadata: { id: "courier", name: "Courier" },
  cloneForRun() {
    return this;
  },
};
const parcelArrived = {
  name: "parcel.arrived",
  title: "Parcel arrived",
  source: "courier.example",
  icon: "package",
  parsePayload: (raw) => z.object({ weight: z.number() }).passthrough().parse(raw),
  runProperties: (payload) => [{ label: "Weight", text: `${payload.weight} g` }],
};
const parcels = new ExternalSource("HTTP", {
  id: "courier.depot",
  version: "0.3.0",
  schema: z.object({ depot: z.string() }),
  integration: courier,
  key: (params) => params.depot,
  filter: (params) => ({ depot: [params.depot] }),
  properties: (params) => [{ label: "Depot", text: params.depot }],
  register: async (event) => ({ data: { subscription: 12 }, options: { event: event.options.event.desired } }),
  handler: async ({ rawEvent, source }) => {
    const parcel = await rawEvent.json();
    return {
      events: [
        {
          id: `parcel-${parcel.number}`,
          name: "parcel.arrived",
          source: "courier.example",
          payload: { weight: parcel.weight, depot: source.params.depot },
        },
      ],
      response: { status: 202, body: { accepted: parcel.number }, headers: { "x-courier": "thanks" } },
    };
  },
});
client.defineJob({
  id: "unpack",
  name: "Unpack",
  version: "1.0.0",
  trigger: new ExternalSourceTrigger({ event: parcelArrived, source: parcels, params: { depot: "north" }, options: {} }),
  run: async (payload) => payload,
});

const anyDepot = new DynamicTrigger(client, { id: "any-depot", event: parcelArrived, source: parcels });
client.defineJob({
  id: "forward-parcel",
  name: "Forward parcel",
  version: "1.0.0",
  trigger: anyDepot,
  run: async (payload) => payload,
});

const readerDigest = new DynamicSchedule(client, { id: "reader-digest" });
client.defineJob({
  id: "send-digest",
  name: "Send digest",
  version: "1.1.0",
  trigger: readerDigest,
  run: async (payload) => ({ at: payload.ts }),
});

// Registers and removes dynamic things from inside a run.
client.defineJob({
  id: "new-reader",
  name: "New reader",
  version: "1.0.0",
  trigger: eventTrigger({ name: "reader.joined" }),
  run: async (_payload, io) => {
    await io.registerInterval("weekly", readerDigest, "reader-1", { seconds: 604800 });
    await io.registerCron("mornings", readerDigest, "reader-2", { cron: "0 7 * * *" });
    await io.unregisterInterval("no-weekly", readerDigest, "reader-1");
    await io.registerTrigger("depot-south", anyDepot, "south", { depot: "south" });
    return "welcome";
  },
});

const app = express();
app.use(createMiddleware(client));
const server = app.listen(Number(process.env.PORT || 0), "127.0.0.1", () => {
  process.stdout.write(`${client.id} listening on http://127.0.0.1:${server.address().port}/api/trigger\n`);
});
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
