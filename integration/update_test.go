package integration

import "testing"

// limitFiles prints what the kernel holds a container to, on split v1 hierarchies or on v2.
const limitFiles = `cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; cat pids/pids.max pids.max 2>/dev/null; true`

func TestUpdate(t *testing.T) {
	id := container(t, "-m", "64m", "--pids-limit", "50", image("busybox"), "sleep", "600")
	held := func(want string) {
		t.Helper()
		equal(t, "in the kernel", limitsHeld(t, id), want)
	}
	held("67108864\n50")
	ok(t, "update", "-m", "32m", "--pids-limit", "40", "--restart", "on-failure:3", id)
	held("33554432\n40")
	ok(t, "update", "-m", "300m", "--memory-swap", "400m", id)
	held("314572800\n40")
	ok(t, "update", "--pids-limit", "-1", "--cpus", "0.5", id)
	held("314572800\nmax")
	equal(t, "inspect", inspect(t, id, "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.NanoCpus}} {{.RestartPolicy.Name}} {{.RestartPolicy.MaximumRetryCount}}{{end}}"), "314572800 419430400 500000000 on-failure 3")
	fails(t, 1, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time", "update", "-m", "500m", id)
	fails(t, 1, "Minimum memory limit allowed is 6MB", "update", "-m", "1m", id)
	fails(t, 1, "CPU Period cannot be updated as NanoCPUs has already been set", "update", "--cpu-period", "50000", id)
	fails(t, 1, "No such container: nosuch", "update", "-m", "64m", "nosuch")
	held("314572800\nmax")
	ok(t, "restart", "-t", "0", id)
	held("314572800\nmax")
	still := made(t, ok(t, "create", "--rm", image("busybox"), "true"))
	fails(t, 1, "Restart policy cannot be updated because AutoRemove is enabled for the container", "update", "--restart", "always", still)
}
