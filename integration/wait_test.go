package integration

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// waiting asks the API for a container's wait, and returns a channel that gives its exit code, or -1 and an error's words.
func waiting(t *testing.T, id, condition string) <-chan waited {
	t.Helper()
	got := make(chan waited, 1)
	go func() {
		status, body := post(t, "/v1.41/containers/"+id+"/wait?condition="+condition)
		var w struct{ StatusCode int }
		if err := json.Unmarshal([]byte(body), &w); err != nil || status != 200 {
			got <- waited{-1, body}
			return
		}
		got <- waited{w.StatusCode, ""}
	}()
	return got
}

type waited struct {
	code  int
	words string
}

// tells wants the wait to be answered with that code; holds, that it isn't yet.
func tells(t *testing.T, what string, w <-chan waited, code int) {
	t.Helper()
	select {
	case got := <-w:
		if got.code != code {
			t.Errorf("%s: %v, want %d", what, got, code)
		}
	case <-time.After(patience):
		t.Fatalf("%s: no answer", what)
	}
}

func holds(t *testing.T, what string, w <-chan waited) {
	t.Helper()
	select {
	case got := <-w:
		t.Errorf("%s is answered already: %v", what, got)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestWaitConditions(t *testing.T) {
	t.Parallel()
	id := made(t, ok(t, "create", "-i", image("busybox"), "sh", "-c", "read code; exit $code"))
	tells(t, "not-running, of one that never ran", waiting(t, id, "not-running"), 0)
	next, removed := waiting(t, id, "next-exit"), waiting(t, id, "removed")
	holds(t, "next-exit of one that never ran", next)
	run := func(code string) {
		t.Helper()
		r := dockerIn(t, code+"\n", "start", "-ai", id)
		equal(t, "start", r.Code, int(code[0]-'0'))
	}
	run("3")
	tells(t, "next-exit", next, 3)
	tells(t, "not-running, of one that has ended", waiting(t, id, "not-running"), 3)
	tells(t, "no condition", waiting(t, id, ""), 3)
	next = waiting(t, id, "next-exit")
	holds(t, "next-exit of one that has ended", next)
	holds(t, "removed", removed)
	run("5")
	tells(t, "the next exit", next, 5)
	next = waiting(t, id, "next-exit")
	holds(t, "next-exit of one that will be removed", next)
	ok(t, "rm", id)
	tells(t, "removed", removed, 5)
	tells(t, "next-exit of one that is removed", next, 5)
	for _, condition := range []string{"not-running", "next-exit", "removed"} {
		w := <-waiting(t, id, condition)
		if w.code != -1 || !strings.Contains(w.words, "No such container: "+id) {
			t.Errorf("%s of one that is gone: %v", condition, w)
		}
	}
	self := container(t, "--rm", image("busybox"), "sh", "-c", "sleep 0.5; exit 6")
	tells(t, "removed, of one that removes itself", waiting(t, self, "removed"), 6)
	fails(t, 1, "(?i)no such container", "inspect", "--type", "container", self)
	forced := container(t, image("busybox"), "sleep", "600")
	running, removed := waiting(t, forced, "not-running"), waiting(t, forced, "removed")
	holds(t, "not-running of one that runs", running)
	ok(t, "rm", "-f", forced)
	tells(t, "not-running, of one that is removed by force", running, 137)
	tells(t, "removed, of one that is removed by force", removed, 137)
}

func TestContainerPruneFilters(t *testing.T) {
	t.Parallel()
	label := fresh("prune")
	create := func(more ...string) string {
		return made(t, ok(t, append(append([]string{"create", "--label", label}, more...), image("busybox"), "true")...))
	}
	kept, gone := create("--label", "keep=1"), create()
	prune := func(filters ...string) string {
		args := []string{"container", "prune", "-f", "--filter", "label=" + label}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return ok(t, args...)
	}
	equal(t, "older than an hour", prune("until=1h"), "Total reclaimed space: 0B")
	equal(t, "older than a time", prune("until=2001-02-03T04:05:06"), "Total reclaimed space: 0B")
	match(t, "without a label", prune("label!=keep"), "(?s)^Deleted Containers:\n"+gone+"\n\nTotal")
	up := container(t, "--label", label, image("busybox"), "sleep", "600")
	match(t, "all that don't run", prune("until=0s"), "(?s)^Deleted Containers:\n"+kept+"\n\nTotal")
	equal(t, "the one that runs", inspect(t, up, "{{.State.Running}}"), "true")
	fails(t, 1, "(?i)invalid filter 'nosuch'", "container", "prune", "-f", "--filter", "nosuch=x")
	fails(t, 1, `failed to parse value as time or duration: "nonsense"`, "container", "prune", "-f", "--filter", "until=nonsense")
}

// What is updated while a container is stopped or was never started holds when it runs.
func TestUpdateStopped(t *testing.T) {
	t.Parallel()
	id := made(t, ok(t, "create", "-m", "64m", image("busybox"), "sh", "-c", limitFiles+"; exit 3"))
	ok(t, "update", "-m", "32m", "--memory-swap", "32m", "--pids-limit", "40", "--restart", "on-failure:1", id)
	equal(t, "inspect", inspect(t, id, "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.State.Status}}"), "33554432 on-failure created")
	ok(t, "start", id)
	resting(t, id, 3, 1)
	ok(t, "update", "-m", "48m", "--memory-swap", "48m", "--restart", "no", id)
	ok(t, "start", id)
	equal(t, "wait", ok(t, "wait", id), "3")
	if hostDiffers["run memory"] == "" {
		equal(t, "in the kernel", ok(t, "logs", id), strings.Repeat("33554432\n40\n", 2)+"50331648\n40")
	}
	equal(t, "restarts", inspect(t, id, "{{.RestartCount}}"), "0")
}
