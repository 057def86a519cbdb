// Reads ids of ours as JSON on stdin and answers with what the libraries of others make of them, and with ids of theirs.
import { DiscordSnowflake, TwitterSnowflake } from "@sapphire/snowflake";
import { TypeID, typeid } from "typeid-js";
import { decodeTime, isValid, monotonicFactory } from "ulid";
import { v1, v4, v6, v7, validate, version } from "uuid";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const ours = JSON.parse(Buffer.concat(chunks));

const plain = ({ timestamp, workerId, processId, increment }) => ({
  at_ms: Number(timestamp),
  worker: Number(workerId),
  process: Number(processId),
  increment: Number(increment),
});
const ulid = monotonicFactory();

process.stdout.write(
  JSON.stringify({
    uuid7: ours.uuid7.map((text) => ({ valid: validate(text), version: version(text) })),
    uuid7_sorted: [...ours.uuid7].sort(),
    ulid: ours.ulid.map((text) => ({ valid: isValid(text), at_ms: decodeTime(text) })),
    ulid_sorted: [...ours.ulid].sort(),
    typeid: ours.typeid.map((text) => {
      const one = TypeID.fromString(text);
      return { prefix: one.getType(), uuid: one.toUUID(), again: TypeID.fromUUID(one.getType(), one.toUUID()).toString() };
    }),
    twitter: ours.twitter.map((text) => plain(TwitterSnowflake.deconstruct(text))),
    discord: ours.discord.map((text) => plain(DiscordSnowflake.deconstruct(text))),
    theirs: {
      uuid: [v1(), v4(), v6(), v7()],
      ulid: [ulid(), ulid()],
      typeid: [typeid("order_item").toString(), typeid().toString()],
      twitter: TwitterSnowflake.generate({ timestamp: 1700000000000n, workerId: 3n, processId: 5n, increment: 9n }).toString(),
      discord: DiscordSnowflake.generate({ timestamp: 1700000000000n, workerId: 3n, processId: 5n, increment: 9n }).toString(),
    },
  }),
);
