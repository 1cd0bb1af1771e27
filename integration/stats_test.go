package integration

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// usageOf is what clients read of a container's statistics.
type usageOf struct {
	ID, Name string
	Read     string
	Preread  string
	CPU      struct {
		Usage struct {
			Total  uint64 `json:"total_usage"`
			User   uint64 `json:"usage_in_usermode"`
			Kernel uint64 `json:"usage_in_kernelmode"`
		} `json:"cpu_usage"`
		System    uint64 `json:"system_cpu_usage"`
		Online    uint64 `json:"online_cpus"`
		Throttled struct {
			Periods   uint64
			Throttled uint64 `json:"throttled_periods"`
		} `json:"throttling_data"`
	} `json:"cpu_stats"`
	Before struct {
		System uint64 `json:"system_cpu_usage"`
	} `json:"precpu_stats"`
	Memory struct {
		Usage, Limit uint64
		Stats        map[string]uint64
	} `json:"memory_stats"`
	Pids struct{ Current, Limit uint64 } `json:"pids_stats"`
	Nets map[string]struct {
		Rx uint64 `json:"rx_bytes"`
		Tx uint64 `json:"tx_bytes"`
	} `json:"networks"`
}

func usageNow(t *testing.T, id, query string) (u usageOf, keys map[string]any) {
	t.Helper()
	status, _, body, err := bed.server.Get(bed.ctx, "/v1.41/containers/"+id+"/stats?"+query)
	if err == nil {
		err = json.Unmarshal([]byte(body), &u)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &keys)
	}
	if err != nil || status != 200 {
		t.Fatalf("stats: %d %v %s", status, err, body)
	}
	return u, keys
}

func between(t *testing.T, what string, got, low, high uint64) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %d, want %d to %d", what, got, low, high)
	}
}

// TestStats looks at a container with a known load: 20 MB in a tmpfs, three processes, and some work.
func TestStats(t *testing.T) {
	name := fresh("stats")
	id := container(t, "--name", name, "--tmpfs", "/ram", "-m", "64m", "--pids-limit", "20", "--cpus", "0.1", image("busybox"), "sh", "-c",
		"head -c 20000000 /dev/zero > /ram/f; sleep 600 & sleep 600 & echo ready; while :; do :; done")
	logged(t, id, "ready")
	eventually(t, "work beyond the limit", func() (bool, string) {
		u, _ := usageNow(t, name, "stream=false&one-shot=true")
		return (u.CPU.Throttled.Throttled > 0 || hostDiffers["throttled"] != "") && u.CPU.Usage.User > 0, jsonOf(t, u.CPU)
	})
	u, doc := usageNow(t, name, "stream=false")
	equal(t, "id and name", u.ID+u.Name, id+"/"+name)
	least := uint64(20_000_000)
	if reason := hostDiffers["tmpfs memory"]; reason != "" {
		t.Log("less: " + reason)
		least = 1_000_000
	}
	between(t, "memory", u.Memory.Usage, least, 64<<20)
	between(t, "memory limit", u.Memory.Limit, 64<<20, 64<<20)
	equal(t, "processes", u.Pids.Current, 3)
	between(t, "their limit", u.Pids.Limit, 20, 20)
	between(t, "processor time", u.CPU.Usage.Total, 20_000_000, 60_000_000_000)
	between(t, "in user and kernel mode", u.CPU.Usage.User+u.CPU.Usage.Kernel, 1_000_000, 60_000_000_000)
	between(t, "the host's since the sample before", u.CPU.System-u.Before.System, 1, 60_000_000_000)
	between(t, "processors", u.CPU.Online, 1, 4096)
	if reason := hostDiffers["throttled"]; reason != "" {
		t.Log("left out: throttled periods: " + reason)
	} else {
		between(t, "throttled periods", u.CPU.Throttled.Throttled, 1, u.CPU.Throttled.Periods)
	}
	between(t, "received on eth0", u.Nets["eth0"].Rx, 0, 1<<20)
	equal(t, "interfaces", len(u.Nets), 1)
	if u.Read <= u.Preread || strings.HasPrefix(u.Preread, "0001") {
		t.Errorf("read %s, before %s", u.Read, u.Preread)
	}
	for _, key := range []string{"read", "preread", "pids_stats", "blkio_stats", "num_procs", "storage_stats", "cpu_stats", "precpu_stats", "memory_stats", "name", "id", "networks"} {
		if _, there := doc[key]; !there {
			t.Errorf("no %s", key)
		}
	}
	// Which lines of memory.stat there are is the host's to say: dockerd 20.10 has the same 32 on cgroup v1.
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.stat"); err == nil {
		equal(t, "lines of memory.stat", len(u.Memory.Stats), 32)
		between(t, "cache", u.Memory.Stats["total_cache"], 20_000_000, 64<<20)
	}
	ok(t, "pause", id)
	paused, _ := usageNow(t, name, "stream=false&one-shot=true")
	equal(t, "processes of a paused one", paused.Pids.Current, 3)
	ok(t, "unpause", id)
	table := ok(t, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}} {{.NetIO}}", name)
	match(t, "docker stats", table, "^"+name+` \S+MiB / 64MiB \d+ .*B / .*B$`)
	match(t, "docker stats of all", ok(t, "stats", "--no-stream"), `(?s)^CONTAINER ID +NAME +CPU %.*`+id[:12]+" +"+name)
	match(t, "docker top of the same", ok(t, "top", id, "-o", "pid,args"), `(?s)sleep.*sleep`)
}

// TestStatsElsewhere is about containers that don't run, that vanish, and that have no network of their own.
func TestStatsElsewhere(t *testing.T) {
	id := made(t, ok(t, "create", image("busybox"), "sleep", "600"))
	u, doc := usageNow(t, id, "stream=false")
	equal(t, "a stopped one", u.Read+u.ID, "0001-01-01T00:00:00Z"+id)
	equal(t, "its memory", u.Memory.Usage, 0)
	if _, there := doc["networks"]; there {
		t.Error("a stopped one has networks")
	}
	match(t, "docker stats", ok(t, "stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}} {{.CPUPerc}}", id), `^0 0B / 0B 0.00%$`)
	fails(t, 1, "No such container: nosuch", "stats", "--no-stream", "nosuch")
	for _, mode := range []string{"none", "host"} {
		c := container(t, "--network", mode, image("busybox"), "sleep", "600")
		if u, _ := usageNow(t, c, "stream=false&one-shot=true"); len(u.Nets) != 0 || u.Pids.Current != 1 {
			t.Errorf("network %s: %+v", mode, u)
		}
	}
	owner := container(t, image("busybox"), "sleep", "600")
	sharer := container(t, "--network", "container:"+owner, image("busybox"), "sleep", "600")
	if u, _ := usageNow(t, sharer, "stream=false&one-shot=true"); len(u.Nets) != 1 {
		t.Errorf("shared network: %+v", u.Nets)
	}
	status, _, body, err := bed.server.Get(bed.ctx, "/v1.41/containers/"+owner+"/stats?one-shot=1")
	if err != nil || status != 400 || !strings.Contains(body, "cannot have stream=true and one-shot=true") {
		t.Errorf("a stream in one shot: %d %s %v", status, body, err)
	}
	// A stream ends when its container is removed.
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://d/v1.41/containers/" + owner + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	frames := json.NewDecoder(resp.Body)
	for n := 0; ; n++ {
		var u usageOf
		if err := frames.Decode(&u); err != nil {
			equal(t, "the stream's end", err.Error(), "EOF")
			break
		}
		if n == 0 {
			ok(t, "rm", "-f", owner)
		}
	}
}

// TestStatsStartNoProcess counts the children that brigd has waited for or has: looking at containers takes none.
func TestStatsStartNoProcess(t *testing.T) {
	own(t)
	id := container(t, image("busybox"), "sleep", "600")
	look := func(times int) (before, after string) {
		before = forks(t, bed.server.Pid())
		for range times {
			usageNow(t, id, "stream=false&one-shot=true")
			ok(t, "ps", "-a", "-q", "--filter", "id="+id)
		}
		return before, forks(t, bed.server.Pid())
	}
	if reason := hostDiffers["healing"]; reason != "" {
		t.Log("in between: " + reason)
		eventually(t, "a while in which brigd starts nothing", func() (bool, string) {
			before, after := look(3)
			return after == before, before + ", then " + after
		})
		return
	}
	before, after := look(20)
	equal(t, "time of ended children and children now", after, before)
}

// forks says what brigd's children have cost and how many there are.
func forks(t *testing.T, pid int) string {
	t.Helper()
	said, err := testbed.Spent(pid)
	if err != nil {
		t.Fatal(err)
	}
	return said
}
