package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// block is a loop device over a file of 16 MiB.
func block(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return dev
}

// Block devices are read and written no faster than asked for: 3 MiB at 1 MiB/s, and 60 operations at 20 a second, take about 3 seconds. A
// loaded host makes it only slower.
func TestThrottle(t *testing.T) {
	t.Parallel()
	dev := block(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range []struct{ name, flag, dd string }{
			{"read bytes", "--device-read-bps", "if=/dev/disk of=/dev/null bs=256k count=12 iflag=direct"},
			{"write bytes", "--device-write-bps", "if=/dev/zero of=/dev/disk bs=256k count=12 oflag=direct conv=notrunc"},
			{"reads", "--device-read-iops", "if=/dev/disk of=/dev/null bs=4k count=60 iflag=direct"},
			{"writes", "--device-write-iops", "if=/dev/zero of=/dev/disk bs=4k count=60 oflag=direct conv=notrunc"},
		} {
			t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				rate := map[bool]string{true: "1mb", false: "20"}[strings.HasSuffix(c.flag, "bps")]
				begin := time.Now()
				out := ok(t, "run", "--rm", "--device", dev+":/dev/disk", c.flag, dev+":"+rate, image("busybox"), "sh", "-c", "dd "+c.dd+" 2>&1")
				if took := time.Since(begin); took < 2*time.Second {
					t.Errorf("took %v: %s", took, out)
				}
			})
		}
	})
}

// Two that compete for one processor get it by their shares, 4 to 1, whatever else the host does.
func TestCPUShares(t *testing.T) {
	t.Parallel()
	var ids []string
	for _, shares := range []string{"1024", "256"} {
		ids = append(ids, container(t, "--cpuset-cpus", "0", "--cpu-shares", shares, image("busybox"), "sh", "-c", "while :; do :; done"))
	}
	used := func() (out [2]float64) {
		for i, id := range ids {
			u, _ := usageNow(t, id, "stream=false&one-shot=true")
			out[i] = float64(u.CPU.Usage.Total)
		}
		return out
	}
	first := used()
	eventually(t, "a second of processor time", func() (bool, string) {
		now := used()
		return now[0]+now[1]-first[0]-first[1] > 1e9, fmt.Sprint(now)
	})
	now := used()
	if ratio := (now[0] - first[0]) / (now[1] - first[1]); ratio < 2 || ratio > 8 {
		t.Errorf("the one with four times the shares got %.1f times as much", ratio)
	}
}

// Without the killer, what asks for more than it may have waits; more memory lets it go on.
func TestOOMKillDisable(t *testing.T) {
	t.Parallel()
	id := container(t, "-m", "16m", "--memory-swap", "16m", "--oom-kill-disable", "--memory-reservation", "8m", image("busybox"), "sh", "-c",
		`cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes; awk 'BEGIN{s="x"; for(i=0;i<24;i++) s=s s; print length(s)}'; sleep 600`)
	logged(t, id, "8388608")
	control := "/sys/fs/cgroup/memory" + cgroupOf(t, inspect(t, id, "{{.State.Pid}}"), "memory") + "/memory.oom_control"
	eventually(t, "it waits for memory", func() (bool, string) {
		b, err := os.ReadFile(control)
		return strings.Contains(string(b), "oom_kill_disable 1") && strings.Contains(string(b), "under_oom 1"), fmt.Sprint(string(b), err)
	})
	equal(t, "it runs", inspect(t, id, "{{.State.Running}} {{.State.OOMKilled}} {{.HostConfig.OomKillDisable}}"), "true false true")
	ok(t, "update", "-m", "200m", "--memory-swap", "200m", id)
	logged(t, id, "16777216")
}

// cgroupOf is a process's cgroup in the hierarchy of a v1 controller.
func cgroupOf(t *testing.T, pid, controller string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[1] == controller {
			return f[2]
		}
	}
	t.Fatalf("process %s is in no cgroup of %s", pid, controller)
	return ""
}

// Ulimits, each exceeded.
func TestUlimits(t *testing.T) {
	t.Parallel()
	runAll(t, []runCase{
		{name: "nofile", flags: []string{"--ulimit", "nofile=64:80"}, args: sh("ulimit -Sn; ulimit -Hn; for i in $(seq 3 80); do eval \"exec $i</etc/passwd\" || break; done; echo unreached"), out: "64\n80\n", err: "(?i)too many open files|bad file descriptor", code: 1},
		{name: "nproc", flags: []string{"--ulimit", "nproc=3", "-u", "4242"}, args: sh("sleep 5 & sleep 5 & sleep 5 & sleep 5 & echo unreached"), err: "(?i)can't fork", code: 2},
		{name: "cpu", flags: []string{"--ulimit", "cpu=1:1"}, args: sh("while :; do :; done"), code: 137},
		{name: "data", flags: []string{"--ulimit", "data=8000000"}, args: sh("head -c 30000000 /dev/zero | tail -c 29000000 | wc -c"), out: "0\n", err: "(?i)out of memory"},
		{name: "core", flags: []string{"--ulimit", "core=0"}, args: sh("ulimit -c"), out: "0\n"},
		{name: "stack", flags: []string{"--ulimit", "stack=1048576"}, args: sh("ulimit -s"), out: "1024\n"},
		{name: "memlock", flags: []string{"--ulimit", "memlock=65536:131072"}, args: sh("ulimit -l; ulimit -Hl"), out: "64\n128\n"},
		{name: "soft above hard", flags: []string{"--ulimit", "nofile=30:20"}, args: sh("true"), err: "soft limit must be less than or equal to hard limit", code: 125},
		{name: "unknown", flags: []string{"--ulimit", "nosuch=1"}, args: sh("true"), err: "invalid ulimit type: nosuch", code: 125},
	})
	id := made(t, ok(t, "create", "--ulimit", "nofile="+strconv.Itoa(512)+":1024", image("busybox"), "true"))
	equal(t, "inspect", inspect(t, id, "{{range .HostConfig.Ulimits}}{{.Name}} {{.Soft}} {{.Hard}}{{end}}"), "nofile 512 1024")
}
