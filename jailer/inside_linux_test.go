package jailer

import (
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// TestInside looks at jails from the inside.
func TestInside(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		set  func(*brig.Jail)
		cmd  string
		want string // each line must be in the output
	}{
		{"environment", func(j *brig.Jail) { j.Env = []string{"A=1"} }, "env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=testhost\nA=1\nHOME=/root"},
		{"user", func(j *brig.Jail) { j.Spec.User, j.Spec.GroupAdd = "web", []string{"wheel"} }, "id; echo $HOME; grep CapEff /proc/self/status",
			"uid=1000(web) gid=1000(web) groups=10(wheel),1000(web),2000(extra)\n/home/web\nCapEff:\t0000000000000000"},
		{"capabilities", func(j *brig.Jail) {}, "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status", "CapEff:\t00000000a80425fb\nSeccomp:\t2"},
		{"no capabilities", func(j *brig.Jail) { j.Spec.CapDrop, j.Spec.CapAdd = []string{"ALL"}, []string{"kill"} }, "grep CapEff /proc/self/status", "CapEff:\t0000000000000020"},
		{"no new privileges", func(j *brig.Jail) { j.Spec.NoNewPrivileges = true }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"},
		{"privileged", func(j *brig.Jail) { j.Spec.Privileged = true }, "grep Seccomp: /proc/self/status; touch /proc/sys/kernel/hostname && echo writable; ls /dev/null", "Seccomp:\t0\nwritable\n/dev/null"},
		{"working directory", func(j *brig.Jail) { j.Cwd = "/a/b" }, "pwd", "/a/b"},
		{"init", func(j *brig.Jail) { j.Spec.Init = &yes }, "ps -o pid,args", "1 /sbin/docker-init -- sh -c ps"},
		{"read-only", func(j *brig.Jail) { j.Spec.ReadOnly = true }, "touch /x 2>/dev/null || echo refused", "refused"},
		{"tmpfs", func(j *brig.Jail) {
			j.Mounts = []brig.JailMount{{Type: brig.MountTmpfs, Target: "/t", Options: []string{"nosuid", "size=1m"}}}
		}, "mount | grep ' /t '", "tmpfs on /t type tmpfs (rw,nosuid,"},
		{"shm", func(j *brig.Jail) { j.Spec.ShmSize = 1 << 20 }, "mount | grep /dev/shm", "size=1024k"},
		{"limits", func(j *brig.Jail) {
			j.Spec.Limits = brig.Limits{Memory: 64 << 20, Pids: 50, NanoCPUs: 500_000_000}
			j.Spec.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "core", Soft: 0, Hard: 0}}
		}, "ulimit -Sn; ulimit -Hn", "100\n200"},
		{"too high a limit", func(j *brig.Jail) { j.Spec.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: 1 << 20, Hard: 1 << 20}} }, "echo starts", "starts"},
		{"sysctl", func(j *brig.Jail) { j.Spec.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} }, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start", "1\n0"},
		{"device", func(j *brig.Jail) {
			j.Spec.Devices = []brig.Device{{Host: "/dev/zero", Container: "/dev/mine", Permissions: "r"}}
		}, "head -c 3 /dev/mine | wc -c", "3"},
		{"masked", func(j *brig.Jail) {}, "cat /proc/keys | wc -c; (echo x >/proc/sys/kernel/hostname) 2>/dev/null || echo refused", "0\nrefused"},
		{"host network", func(j *brig.Jail) { j.Netns.Kind = brig.NetnsHost }, "echo starts", "starts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachRuntime(t, func(b *bench) {
				j := b.jail("sh", "-c", c.cmd)
				c.set(j)
				out, errOut, exit := b.run(j, "")
				for line := range strings.Lines(c.want) {
					if !strings.Contains(out, strings.TrimSuffix(line, "\n")) {
						b.Errorf("no %q in %q (stderr %q, %+v)", line, out, errOut, exit)
					}
				}
			})
		})
	}
}
