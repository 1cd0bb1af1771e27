package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLimitsHold exceeds limits and looks at what stops the container.
func TestLimitsHold(t *testing.T) {
	sh := func(script string, flags ...string) []string {
		return append(append([]string{"run", "--rm"}, flags...), image("busybox"), "sh", "-c", script)
	}
	for _, c := range []struct {
		name string
		args []string
		out  string // stdout and stderr, a regular expression
		code int
	}{
		{"pids", sh("for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo all", "--pids-limit", "4"), `can't fork`, 2},
		{"cpuset", sh("grep Cpus_allowed_list /proc/self/status", "--cpuset-cpus", "0"), `^Cpus_allowed_list:\s0\n$`, 0},
		{"ulimit fsize", sh("head -c 200000 /dev/zero > /tmp/f; wc -c < /tmp/f", "--ulimit", "fsize=102400:102400"), `^102400\n`, 0},
		{"shm-size", sh("head -c 2000000 /dev/zero > /dev/shm/f; wc -c < /dev/shm/f", "--shm-size", "1m"), `^1048576\n`, 0},
		{"tmpfs size", sh("head -c 2000000 /dev/zero > /t/f; wc -c < /t/f", "--tmpfs", "/t:size=1m"), `^1048576\n`, 0},
		// No driver has major 60: an open that the cgroup lets through ends with ENXIO, one that it refuses with EPERM.
		{"device without --device", sh("mknod /tmp/d c 60 5 && cat /tmp/d"), `Operation not permitted`, 1},
		{"device rule", sh("mknod /tmp/d c 60 5; cat /tmp/d; echo x >/tmp/d", "--device-cgroup-rule", "c 60:* r"), `(?s)No such device.*Operation not permitted|Operation not permitted.*No such device`, 1},
		{"oom-score-adj", sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "500"), `^500\n$`, 0},
		{"oom-score-adj out of range", sh("true", "--oom-score-adj", "1001"), `range for oom score adj is \[-1000, 1000\]`, 125},
		{"memory too small", sh("true", "-m", "1m"), `Minimum memory limit allowed is 6MB`, 125},
		{"memory-swap below memory", sh("true", "-m", "20m", "--memory-swap", "10m"), `Minimum memoryswap limit should be larger than memory limit, see usage`, 125},
		{"too many cpus", sh("true", "--cpus", "4000"), `(?i)range of CPUs is from 0.01 to`, 125},
		{"no such cpu", sh("true", "--cpuset-cpus", "4000"), `Requested CPUs are not available - requested 4000`, 125},
		{"storage-opt", sh("true", "--storage-opt", "size=1g"), `(?i)storage-opt|storage option|quota|size`, 125},
	} {
		t.Run(c.name, func(t *testing.T) {
			offered(t, "limit "+c.name)
			r := docker(t, c.args...)
			match(t, "output", r.Out+r.Err, c.out)
			equal(t, "exit code", r.Code, c.code)
		})
	}
}

// TestWeightIsWarnedOf: without a scheduler that knows weights nothing would come of one.
func TestWeightIsWarnedOf(t *testing.T) {
	offered(t, "weight")
	files, _ := filepath.Glob("/sys/block/*/queue/scheduler")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "[bfq]") || strings.Contains(string(b), "[cfq]") {
			t.Skip("a disk of this host is shared by weight")
		}
	}
	r := docker(t, "create", "--blkio-weight", "300", image("busybox"), "true")
	id := made(t, strings.TrimSpace(r.Out))
	match(t, "warning", r.Err, `WARNING: Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.`)
	ok(t, "start", id)
	equal(t, "wait", ok(t, "wait", id), "0")
}

// TestOutOfMemory lets the main process take more than it may have, and keep it: some systems look once a second.
func TestOutOfMemory(t *testing.T) {
	since := time.Now()
	id := container(t, "-m", "16m", "--memory-swap", "16m", "--memory-reservation", "8m", image("busybox"), "tail", "-c", "64m", "/dev/zero")
	equal(t, "wait", ok(t, "wait", id), "137")
	equal(t, "inspect", inspect(t, id, "{{.State.OOMKilled}} {{.State.ExitCode}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.MemoryReservation}}"),
		fmt.Sprintf("%t 137 16777216 16777216 8388608", hostDiffers["oom"] == ""))
	events := "oom\ndie"
	if hostDiffers["oom"] != "" {
		events = "die"
	}
	equal(t, "events", ok(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano),
		"--filter", "container="+id, "--filter", "event=oom", "--filter", "event=die", "--format", "{{.Action}}"), events)
	id = container(t, "-m", "16m", image("busybox"), "sh", "-c", "exit 3")
	equal(t, "wait", ok(t, "wait", id), "3")
	equal(t, "one that had enough", inspect(t, id, "{{.State.OOMKilled}} {{.State.ExitCode}}"), "false 3")
}

// TestDevice gives devices under other names.
func TestDevice(t *testing.T) {
	offered(t, "run device")
	r := docker(t, "run", "--rm", "--device", "/dev/zero:/dev/mine:r", image("busybox"), "head", "-c", "3", "/dev/mine")
	equal(t, "a device by another name", r.Out, "\x00\x00\x00")
	fails(t, 127, "error gathering device information while adding custom device .*no such file or directory", "run", "--rm", "--device", "/dev/nosuch", image("busybox"), "true")
	fails(t, 125, "", "run", "--rm", "--device", "/dev/zero:/dev/mine:q", image("busybox"), "true")
}

// TestCgroupParent puts a container beneath a cgroup of its own choosing.
func TestCgroupParent(t *testing.T) {
	offered(t, "cgroup parent")
	parent := fresh("brig-it-parent")
	t.Cleanup(func() {
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent)
		for _, dir := range append(dirs, "/sys/fs/cgroup/"+parent) {
			os.Remove(dir)
		}
	})
	id := container(t, "--cgroup-parent", "/"+parent, image("busybox"), "sh", "-c", "cat /proc/self/cgroup; sleep 600")
	logged(t, id, "/"+parent+"/"+id)
	equal(t, "inspect", inspect(t, id, "{{.HostConfig.CgroupParent}}"), "/"+parent)
	equal(t, "stats", len(strings.Fields(ok(t, "stats", "--no-stream", "--format", "{{.PIDs}}", id))), 1)
	ok(t, "rm", "-f", id)
	private := ok(t, "run", "--rm", "--cgroupns", "private", image("busybox"), "cat", "/proc/self/cgroup")
	for line := range strings.Lines(private + "\n") {
		match(t, "line in a cgroup namespace", strings.TrimSpace(line), `:/$`)
	}
}

// TestPaused is about what a paused container does not do.
func TestPaused(t *testing.T) {
	id := container(t, image("user"), "onint")
	logged(t, id, "ready")
	fails(t, 1, "is not paused", "unpause", id)
	ok(t, "pause", id)
	fails(t, 1, "is already paused", "pause", id)
	fails(t, 1, "(?i)is paused, unpause the container before exec", "exec", id, "true")
	match(t, "top of a paused one", ok(t, "top", id, "-o", "pid,comm"), `(?s)^PID +COMMAND`)
	match(t, "ps", ok(t, "ps", "--filter", "id="+id, "--format", "{{.Status}}"), `^Up .* \(Paused\)$`)
	fails(t, 1, "(?i)cannot start a paused container, try unpause instead", "start", id)
	ok(t, "stop", "-t", "5", id)
	match(t, "stopped while it was paused", inspect(t, id, "{{.State.Status}} {{.State.Paused}}"), "^exited false$")
	ok(t, "start", id)
	ok(t, "pause", id)
	ok(t, "kill", id)
	equal(t, "killed while it was paused", ok(t, "wait", id), "137")
	fails(t, 1, "is not running", "pause", id)
	fails(t, 1, "is not running", "top", id)
}

// TestTopArguments gives ps what it doesn't know, and what leaves out the column that brig needs.
func TestTopArguments(t *testing.T) {
	id := container(t, image("busybox"), "sleep", "600")
	match(t, "aux", ok(t, "top", id, "aux"), `(?s)^USER +PID +%CPU .*sleep 600`)
	match(t, "pid in the middle", ok(t, "top", id, "-eo", "comm,pid,args"), `^COMMAND +PID +COMMAND\s*\n(sleep|busybox) +\d+ +sleep 600`)
	fails(t, 1, "(?i)couldn't find PID field in ps output", "top", id, "-eo", "comm")
	fails(t, 1, "ps", "top", id, "--nosuch")
	fails(t, 1, "No such container: nosuch", "top", "nosuch")
}

// TestContainerPruneCounts removes a stopped container that has written 40 kB.
func TestContainerPruneCounts(t *testing.T) {
	label := fresh("prunesize")
	ok(t, "run", "--label", label, image("busybox"), "dd", "if=/dev/zero", "of=/a", "bs=1k", "count=40")
	match(t, "ps -s", ok(t, "ps", "-a", "-s", "--filter", "label="+label, "--format", "{{.Size}}"), `^41kB \(virtual `)
	match(t, "prune", ok(t, "container", "prune", "-f", "--filter", "label="+label), `(?s)^Deleted Containers:\n[0-9a-f]{64}\n\nTotal reclaimed space: 40\.96kB$`)
}

// TestSettingsOfARun is about options that are neither limits nor mounts.
func TestSettingsOfARun(t *testing.T) {
	id := container(t, "--stop-signal", "INT", "--stop-timeout", "60", image("user"), "onint")
	logged(t, id, "ready")
	equal(t, "inspect", inspect(t, id, "{{.Config.StopSignal}} {{.Config.StopTimeout}}"), "INT 60")
	ok(t, "stop", id)
	equal(t, "stopped by its own signal", inspect(t, id, "{{.State.ExitCode}}"), "7")
	status, body := post(t, "/v1.41/containers/"+id+"/resize?h=10&w=10")
	equal(t, "resize of a stopped one", status, 409)
	match(t, "its words", body, "is not running")
	if status, body = post(t, "/v1.41/containers/"+id+"/resize?h=x&w=10"); status != 400 {
		t.Errorf("resize to nonsense: %d %s", status, body)
	}
	id = container(t, "--stop-timeout", "0", image("busybox"), "sh", "-c", "trap '' TERM; echo ready; exec sleep 600")
	logged(t, id, "ready")
	ok(t, "stop", id)
	equal(t, "killed at once", inspect(t, id, "{{.State.ExitCode}}"), "137")
	if bed.server.Owned { // API 1.43
		id = made(t, ok(t, "create", "--annotation", "a.b=c", image("busybox"), "true"))
		equal(t, "annotation", inspect(t, id, `{{index .HostConfig.Annotations "a.b"}}`), "c")
		ok(t, "start", id)
		equal(t, "wait", ok(t, "wait", id), "0")
		if hostDiffers["run init"] != "" {
			return
		}
		match(t, "init", ok(t, "run", "--rm", "--init", image("busybox"), "ps", "-o", "pid,comm"), `(?m)^ +1 +\S*init`)
	}
}

// post sends an empty POST.
func post(t *testing.T, path string) (int, string) {
	t.Helper()
	return postJSON(t, path, "")
}

func postJSON(t *testing.T, path, doc string) (int, string) {
	t.Helper()
	return send(t, "POST", path, []byte(doc))
}
