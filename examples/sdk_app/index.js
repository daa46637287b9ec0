// An observatory on the unmodified SDK, served by its own express adapter: one job for every kind of trigger.
//
// Environment: TRIGGER_API_KEY, TRIGGER_API_URL, PORT (0, the default, takes a free port).
// Once it listens it prints one line: "observatory listening on <endpoint url>".
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
  id: "observatory",
  apiKey: process.env.TRIGGER_API_KEY,
  apiUrl: process.env.TRIGGER_API_URL || "http://127.0.0.1:8080",
});

client.defineJob({
  id: "comet-seen",
  name: "Comet seen",
  version: "1.2.0",
  trigger: eventTrigger({
    name: "comet.seen",
    schema: z.object({ name: z.string(), magnitude: z.number() }),
    filter: { magnitude: [{ $lt: 6 }] },
  }),
  run: async (payload, io) => {
    await io.logger.info("A comet", { name: payload.name });
    return { name: payload.name };
  },
});

client.defineJob({
  id: "close-dome",
  name: "Close the dome",
  version: "1.0.0",
  trigger: eventTrigger({ name: ["rain.began", "wind.rose"] }),
  run: async () => "closed",
});

client.defineJob({
  id: "solar-flare",
  name: "Solar flare",
  version: "0.3.0",
  enabled: false,
  trigger: eventTrigger({ name: "flare.seen" }),
  run: async () => "never",
});

client.defineJob({
  id: "nightly-calibration",
  name: "Nightly calibration",
  version: "2.0.0",
  trigger: cronTrigger({ cron: "0 20 * * *" }),
  run: async (payload) => ({ at: payload.ts }),
});

client.defineJob({
  id: "mirror-temperature",
  name: "Mirror temperature",
  version: "1.0.0",
  trigger: intervalTrigger({ seconds: 600 }),
  run: async (payload) => ({ at: payload.ts }),
});

// A source over HTTP, used by a job and by a dynamic trigger.
const skyfeed = {
  id: "skyfeed",
  authSource: "LOCAL",
  metadata: { id: "skyfeed", name: "Skyfeed" },
  cloneForRun() {
    return this;
  },
};
const alertRaised = {
  name: "alert.raised",
  title: "Alert raised",
  source: "skyfeed.example",
  icon: "bell",
  parsePayload: (raw) => z.object({ region: z.string() }).passthrough().parse(raw),
};
const alerts = new ExternalSource("HTTP", {
  id: "skyfeed.alerts",
  version: "0.1.0",
  schema: z.object({ region: z.string() }),
  integration: skyfeed,
  key: (params) => params.region,
  filter: (params) => ({ region: [params.region] }),
  register: async (event) => ({ data: {}, options: { event: event.options.event.desired } }),
  handler: async () => ({ events: [] }),
});

client.defineJob({
  id: "point-telescope",
  name: "Point the telescope",
  version: "1.0.0",
  trigger: new ExternalSourceTrigger({ event: alertRaised, source: alerts, params: { region: "south" }, options: {} }),
  run: async (payload) => payload,
});

const anyRegion = new DynamicTrigger(client, { id: "any-region", event: alertRaised, source: alerts });
client.defineJob({
  id: "log-alert",
  name: "Log an alert",
  version: "1.0.0",
  trigger: anyRegion,
  run: async (payload) => payload,
});

const observerRota = new DynamicSchedule(client, { id: "observer-rota" });
client.defineJob({
  id: "wake-observer",
  name: "Wake the observer",
  version: "1.0.0",
  trigger: observerRota,
  run: async (payload) => ({ at: payload.ts }),
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
