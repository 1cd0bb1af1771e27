package integration

import (
	"strings"
	"testing"
	"time"
)

// healthBecomes waits for a container's health and for what its list says of it.
func healthBecomes(t *testing.T, id, status, listed string) {
	t.Helper()
	eventually(t, "health "+status, func() (bool, string) {
		got := inspect(t, id, "{{.State.Health.Status}}")
		return got == status, got
	})
	match(t, "STATUS", ok(t, "ps", "--filter", "id="+id, "--format", "{{.Status}}"), `^Up .* \(`+listed+`\)$`)
	equal(t, "filter", ok(t, "ps", "-q", "--no-trunc", "--filter", "id="+id, "--filter", "health="+status), id)
}

// The image's health check is run: the status, its log and its events are what it shows.
func TestHealth(t *testing.T) {
	since := time.Now().Add(-time.Second).Format(time.RFC3339Nano)
	name := fresh("h")
	id := container(t, "--name", name, image("health"))
	match(t, "health check", inspect(t, id, "{{json .Config.Healthcheck.Test}}"), `^\["CMD`)
	healthBecomes(t, id, "unhealthy", "unhealthy")
	match(t, "failures", inspect(t, id, "{{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).ExitCode}}"), `^[2-9] 1$`)
	ok(t, "exec", id, "touch", "/tmp/ok")
	healthBecomes(t, id, "healthy", "healthy")
	equal(t, "failures", inspect(t, id, "{{.State.Health.FailingStreak}}"), "0")
	ok(t, "pause", id)
	equal(t, "paused", inspect(t, id, "{{.State.Health.Status}}"), "unhealthy")
	ok(t, "unpause", id)
	healthBecomes(t, id, "healthy", "healthy")
	ok(t, "stop", "-t", "0", id)
	equal(t, "stopped", inspect(t, id, "{{.State.Health.Status}}"), "unhealthy")
	until := time.Now().Add(time.Second).Format(time.RFC3339Nano)
	got := ok(t, "events", "--since", since, "--until", until, "--filter", "container="+name, "--filter", "event=health_status", "--format", "{{.Action}}")
	equal(t, "events", strings.Join(strings.Split(strings.TrimSpace(got), "\n"), ","), "health_status: unhealthy,health_status: healthy,health_status: healthy")
	for _, action := range []string{"exec_create: /bin/sh -c test -f /tmp/ok", "exec_start: /bin/sh -c test -f /tmp/ok", "exec_die"} {
		seen := ok(t, "events", "--since", since, "--until", until, "--filter", "container="+name, "--filter", "event="+action, "--format", "{{.Action}} {{.Actor.Attributes.execID}}")
		match(t, action, seen, `^`+action+` [0-9a-f]{64}`)
	}
}

func TestHealthFlags(t *testing.T) {
	off := container(t, "--no-healthcheck", image("health"))
	equal(t, "switched off", inspect(t, off, "{{json .Config.Healthcheck.Test}} {{with .State.Health}}{{.Status}}{{end}}"), `["NONE"] `)
	equal(t, "filter none", ok(t, "ps", "-q", "--no-trunc", "--filter", "id="+off, "--filter", "health=none"), off)
	slow := container(t, "--health-cmd", "echo slow; exec sleep 100", "--health-interval", "100ms", "--health-timeout", "500ms", "--health-retries", "1", image("busybox"), "sleep", "600")
	match(t, "before", ok(t, "ps", "--filter", "id="+slow, "--format", "{{.Status}}"), `^Up .* \(health: starting\)$|^Up .* \(unhealthy\)$`)
	healthBecomes(t, slow, "unhealthy", "unhealthy")
	match(t, "timeout", inspect(t, slow, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}"), `^-1 Health check exceeded timeout \(500ms\)`)
	eventually(t, "a probe that is late is killed", func() (bool, string) {
		out := ok(t, "top", slow)
		return strings.Count(out, "sleep 100") <= 1, out
	})
	long := container(t, "--health-cmd", "yes | head -c 5000; exit 7", "--health-interval", "100ms", "--health-start-period", "1h", "--health-retries", "1", image("busybox"), "sleep", "600")
	eventually(t, "five results", func() (bool, string) {
		n := inspect(t, long, "{{len .State.Health.Log}}")
		return n == "5", n
	})
	equal(t, "in the start period", inspect(t, long, "{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{with index .State.Health.Log 4}}{{.ExitCode}} {{len .Output}}{{end}}"), "starting 0 7 4099")
	fails(t, 1, "Interval in Healthcheck cannot be less than 1ms", "create", "--health-cmd", "true", "--health-interval", "1us", image("busybox"))
}
