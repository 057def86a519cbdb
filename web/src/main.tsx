import "@mantine/core/styles.css"
import "@mantine/charts/styles.css"
import "@mantine/notifications/styles.css"
import "./console.css"
import { MantineProvider } from "@mantine/core"
import { Notifications } from "@mantine/notifications"
import { createRoot } from "react-dom/client"
import { api } from "./api"
import { Console } from "./shell/Console"
import { theme } from "./theme"

/** The one-click token leaves the address before anything is drawn: it becomes a cookie that scripts cannot read. */
async function swapToken() {
  const address = new URL(location.href)
  const token = address.searchParams.get("token")
  if (!token) return
  address.searchParams.delete("token")
  history.replaceState(null, "", address)
  await api("/-/session", { method: "POST", body: { token } }).catch(() => undefined)
}

swapToken().then(() =>
  createRoot(document.getElementById("root")!).render(
    <MantineProvider theme={theme} defaultColorScheme="auto">
      <Notifications position="bottom-right" limit={3} />
      <Console />
    </MantineProvider>,
  ),
)
