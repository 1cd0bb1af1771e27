package jailer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCgroupMounts reads mountinfos of hosts with split, single and copied hierarchies.
func TestCgroupMounts(t *testing.T) {
	const (
		cpu       = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
		systemd   = "40 31 0:37 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,name=systemd\n"
		unified   = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		cpuCopy   = "52 51 0:29 / /srv/root/sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
		v2Copy    = "61 51 0:38 / /srv/root/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		other     = "23 1 0:20 / /sys rw - sysfs sysfs rw\n"
		elsewhere = "70 1 0:50 / /cgroup rw - cgroup cgroup rw,memory\n"
	)
	for _, c := range []struct{ name, mountinfo, roots, hybrid string }{
		{"split", other + cpu + systemd, "/sys/fs/cgroup/cpu,cpuacct=cpu+cpuacct /sys/fs/cgroup/systemd=", ""},
		{"hybrid", cpu + unified, "/sys/fs/cgroup/cpu,cpuacct=cpu+cpuacct", "/sys/fs/cgroup/unified"},
		{"a chroot has copies", cpu + unified + cpuCopy + v2Copy, "/sys/fs/cgroup/cpu,cpuacct=cpu+cpuacct", "/sys/fs/cgroup/unified"},
		{"copies come first", cpuCopy + v2Copy + cpu + unified, "/sys/fs/cgroup/cpu,cpuacct=cpu+cpuacct", "/sys/fs/cgroup/unified"},
		{"elsewhere", elsewhere, "/cgroup=memory", ""},
	} {
		file := filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(file, []byte(c.mountinfo), 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := detectCgroups(file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var roots []string
		for _, h := range g.roots {
			roots = append(roots, h.path+"="+strings.Join(h.controllers, "+"))
		}
		if got := strings.Join(roots, " "); got != c.roots || g.hybrid != c.hybrid || g.v2 {
			t.Errorf("%s: roots %q, hybrid %q, v2 %v", c.name, got, g.hybrid, g.v2)
		}
	}
}
