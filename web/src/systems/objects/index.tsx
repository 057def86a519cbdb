import { Tabs } from "@mantine/core"
import { useSearchParams } from "wouter"
import type { Snippets } from "../registry"
import { BucketPage } from "./BucketPage"
import { Buckets } from "./Buckets"
import { Disks } from "./Disks"

export function Page() {
  const [params, setParams] = useSearchParams()
  const bucket = params.get("bucket")
  const part = params.get("part") ?? "buckets"
  if (bucket) return <BucketPage key={bucket} name={bucket} back={() => setParams({})} />
  return (
    <Tabs value={part} onChange={(value) => setParams(value === "disks" ? { part: "disks" } : {})} variant="pills" keepMounted={false}>
      <Tabs.List mb="md">
        <Tabs.Tab value="buckets">Buckets</Tabs.Tab>
        <Tabs.Tab value="disks">Disks</Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="buckets">
        <Buckets open={(name) => setParams({ bucket: name })} />
      </Tabs.Panel>
      <Tabs.Panel value="disks">
        <Disks />
      </Tabs.Panel>
    </Tabs>
  )
}

export const snippets: Snippets = ({ origin, listeners }) => {
  const s3 = (listeners.s3 ?? "http://127.0.0.1:9000").replace(/\/$/, "")
  return [
    {
      label: "AWS command line",
      code: `mainspring token create objects --json        # access_key and secret_key
export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_DEFAULT_REGION=us-east-1
aws --endpoint-url ${s3} s3 mb s3://photos
aws --endpoint-url ${s3} s3 cp --recursive ./album s3://photos/album`,
    },
    {
      label: "Python, any S3 client: boto3",
      code: `import boto3

s3 = boto3.client("s3", endpoint_url="${s3}", region_name="us-east-1",
                  aws_access_key_id="…", aws_secret_access_key="…")
s3.put_object(Bucket="photos", Key="a.jpg", Body=open("a.jpg", "rb"), IfNoneMatch="*")
for one in s3.list_objects_v2(Bucket="photos")["Contents"]:
    print(one["Key"], one["Size"])`,
    },
    {
      label: "curl",
      code: `TOKEN=$(mainspring token create objects)
curl -s -X PUT ${origin}/api/objects/buckets/photos/objects/a.jpg -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: image/jpeg' --data-binary @a.jpg
curl -s ${origin}/api/objects/buckets/photos/presign -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{"key": "a.jpg", "expires_s": 3600}'`,
    },
    {
      label: "Python, in your own process",
      code: `from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.storage.objects import Objects

async with Mainspring(["objects"], Config(data="./data")) as mainspring:
    objects = await mainspring.service(Objects)
    await objects.create_bucket("photos")
    made = await objects.put("photos", "a.txt", b"hello")      # on stable storage when it returns
    async for chunk in await objects.get("photos", "a.txt"):
        print(made.etag, len(chunk))`,
    },
  ]
}
