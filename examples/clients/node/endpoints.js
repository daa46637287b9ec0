// Registers an endpoint and lists what is registered: `node endpoints.js SLUG URL`.
// The address is KONGFLOW_TARGET, or 127.0.0.1:50051; the API key is KONGFLOW_TOKEN. A refusal is exit code 1.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const CONTRACT = path.join(__dirname, "..", "..", "..", "gen");
const read = (...names) => fs.readFileSync(path.join(CONTRACT, ...names));
// What `protoc --descriptor_set_out` makes of the protos, so that nothing is generated here.
const types = loader.loadFileDescriptorSetFromBuffer(read("kongflow.protoset"), {
  defaults: true,
  enums: String,
  keepCase: true,
});

async function main(slug, url) {
  const { EndpointService } = grpc.loadPackageDefinition(types).kongflow.v1;
  const target = process.env.KONGFLOW_TARGET ?? "127.0.0.1:50051";
  // The service config lets gRPC repeat what is safe to repeat.
  const endpoints = new EndpointService(target, grpc.credentials.createInsecure(), {
    "grpc.service_config": read("kongflow", "v1", "service_config.json").toString(),
  });
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${process.env.KONGFLOW_TOKEN}`);
  const call = (method, request) =>
    promisify(endpoints[method]).call(endpoints, request, metadata, { deadline: Date.now() + 40_000 });
  try {
    const { endpoint, created } = await call("CreateEndpoint", { slug, url });
    console.log(created ? "created" : "updated", endpoint.slug);
    for (const one of (await call("ListEndpoints", {})).endpoints) {
      console.log(one.slug, one.state.replace("ENDPOINT_STATE_", ""), one.url);
    }
  } catch (error) {
    const { reason, violations } = refusal(error);
    console.error(`refused: ${reason}: ${error.details}`);
    for (const { field, description } of violations) {
      console.error(`  ${field}: ${description}`);
    }
    process.exitCode = 1;
  } finally {
    endpoints.close();
  }
}

// Returns the reason of a refusal, which docs/errors.md explains, and which fields it is about. What never reached the
// server has no reason but gRPC's status.
function refusal(error) {
  const found = { reason: grpc.status[error.code] ?? error.name, violations: [] };
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = bytes ? types["google.rpc.Status"].deserialize(bytes).details : [];
  for (const { type_url, value } of details) {
    const name = type_url.slice(type_url.lastIndexOf("/") + 1);
    if (name === "google.rpc.ErrorInfo") {
      found.reason = types[name].deserialize(value).reason;
    } else if (name === "google.rpc.BadRequest") {
      found.violations = types[name].deserialize(value).field_violations;
    }
  }
  return found;
}

main(process.argv[2], process.argv[3]);
