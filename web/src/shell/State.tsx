import { Badge, Tooltip } from "@mantine/core"
import type { SystemInfo } from "./systems"

const shown = {
  running: { color: "teal", label: "running", tip: "Built and answering" },
  building: { color: "blue", label: "starting", tip: "Somebody just asked for it" },
  idle: { color: "gray", label: "ready", tip: "Costs nothing until somebody touches it" },
  failed: { color: "red", label: "failed", tip: "Its last start failed; the next request tries again" },
  missing: { color: "yellow", label: "not installed", tip: "Its libraries are missing" },
}

export function State({ system }: { system: SystemInfo }) {
  const { color, label, tip } = shown[system.state]
  return (
    <Tooltip label={system.reason || tip} multiline maw={320}>
      <Badge variant="light" color={color} size="sm">
        {label}
      </Badge>
    </Tooltip>
  )
}
