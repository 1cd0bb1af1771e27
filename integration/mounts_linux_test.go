package integration

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// sharedMount is a tmpfs that propagates, with a file and a mount below it; all goes after the test.
func sharedMount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(target string, flags uintptr) {
		t.Helper()
		fstype := "tmpfs"
		if flags != 0 {
			fstype = ""
		}
		if err := unix.Mount(fstype, target, fstype, flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount(dir, 0)
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	mount(dir, unix.MS_SHARED)
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount(filepath.Join(dir, "below"), 0)
	if err := os.WriteFile(filepath.Join(dir, "below", "f"), []byte("deep\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMounts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	shared, plain := sharedMount(t), sharedMount(t)
	if err := unix.Mount("", plain, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	hard := sharedMount(t)
	if err := unix.Mount("", hard, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	optional := func(target string) []string {
		return sh("awk '$5 == \"" + target + "\" {print $7}' /proc/self/mountinfo | cut -d: -f1")
	}
	runAll(t, []runCase{
		{name: "v twice", flags: []string{"-v", dir + ":/m", "-v", dir + ":/m:ro"}, args: []string{"true"}, err: "Duplicate mount point: /m", code: 125},
		{name: "v and tmpfs", flags: []string{"-v", dir + ":/m", "--tmpfs", "/m"}, args: []string{"true"}, err: "Duplicate mount point: /m", code: 125},
		{name: "v to the root", flags: []string{"-v", dir + ":/"}, args: []string{"true"}, err: "invalid specification: destination can't be '/'", code: 125},
		{name: "v to no absolute path", flags: []string{"-v", dir + ":m"}, args: []string{"true"}, err: "invalid mount path: 'm' mount path must be absolute", code: 125},
		{name: "v of a relative path", flags: []string{"-v", "a/b:/m"}, args: []string{"true"}, err: `includes invalid characters for a local volume name, only "\[a-zA-Z0-9\]\[a-zA-Z0-9_.-\]" are allowed. If you intended to pass a host directory, use absolute path`, code: 125},
		{name: "v with an unknown mode", flags: []string{"-v", dir + ":/m:foo"}, args: []string{"true"}, err: "invalid mode: foo", code: 125},
		{name: "v of a file", flags: []string{"-v", dir + "/f:/etc/issue:ro"}, args: sh("cat /etc/issue; echo >/etc/issue"), out: "host\n", err: "Read-only", code: 1},
		{name: "v z", flags: []string{"-v", dir + ":/m:z,ro"}, args: []string{"cat", "/m/f"}, out: "host\n"},
		{name: "v makes its source", flags: []string{"-v", dir + "/made/here:/m"}, args: sh("stat -c %a:%u /m"), out: "755:0\n"},
		{name: "v over /etc/hosts", flags: []string{"-v", dir + "/f:/etc/hosts"}, args: []string{"cat", "/etc/hosts"}, out: "host\n"},
		{name: "v with spaces", flags: []string{"-v", dir + ":/with space"}, args: []string{"cat", "/with space/f"}, out: "host\n"},
		{name: "v recursive", flags: []string{"-v", shared + ":/m"}, args: []string{"cat", "/m/below/f"}, out: "deep\n"},
		{name: "v of a restricted mount", flags: []string{"-v", hard + ":/m"}, args: sh("touch /m/x 2>&1 | grep -c Read-only; awk '$5 == \"/m\" {print $6}' /proc/self/mountinfo"), out: "1\nro,nosuid,nodev,noexec,.*\n"},
		{name: "v rslave", flags: []string{"-v", shared + ":/m:rslave"}, args: optional("/m"), out: "master\n"},
		{name: "v shared", flags: []string{"-v", shared + ":/m:shared"}, args: optional("/m"), out: "shared\n"},
		{name: "v rprivate", flags: []string{"-v", shared + ":/m:rprivate"}, args: optional("/m"), out: "-\n"},
		{name: "v shared of a private one", flags: []string{"-v", plain + ":/m:shared"}, args: []string{"true"}, err: "path " + plain + " is mounted on " + plain + " but it is not a shared mount", code: 125},
		{name: "v slave of a private one", flags: []string{"-v", plain + ":/m:slave"}, args: []string{"true"}, err: "path " + plain + " is mounted on " + plain + " but it is not a shared or slave mount", code: 125},
		{name: "mount propagation", flags: []string{"--mount", "type=bind,src=" + shared + ",dst=/m,bind-propagation=rslave"}, args: optional("/m"), out: "master\n"},
		{name: "mount nonrecursive", flags: []string{"--mount", "type=bind,src=" + shared + ",dst=/m,bind-recursive=disabled"}, args: sh("ls /m/below | wc -l"), out: "0\n"},
		{name: "mount missing", flags: []string{"--mount", "type=bind,src=" + dir + "/nosuch,dst=/m"}, args: []string{"true"}, err: `invalid mount config for type "bind": bind source path does not exist: ` + dir + "/nosuch", code: 125},
		{name: "mount to the root", flags: []string{"--mount", "type=bind,src=" + dir + ",dst=/"}, args: []string{"true"}, err: "invalid specification: destination can't be '/'", code: 125},
		{name: "mount of an unknown type", flags: []string{"--mount", "type=foo,dst=/m"}, args: []string{"true"}, err: `(?i)invalid mount config for type "foo": mount type unknown|mount type unknown`, code: 125},
		{name: "mount of no source", flags: []string{"--mount", "type=bind,dst=/m"}, args: []string{"true"}, err: `field Source must not be empty|source is required`, code: 125},
		{name: "mount of an image", flags: []string{"--mount", "type=image,src=" + image("busybox") + ",dst=/m"}, args: []string{"true"}, err: `(?i)type.*image`, code: 125},
		{name: "mount tmpfs options", flags: []string{"--mount", "type=tmpfs,dst=/m,tmpfs-size=2m,tmpfs-mode=0750"}, args: sh("stat -c %a /m; grep -o 'size=[0-9]*k' /proc/self/mounts | grep 2048k"), out: "750\nsize=2048k\n"},
		{name: "mount tmpfs of a source", flags: []string{"--mount", "type=tmpfs,src=x,dst=/m"}, args: []string{"true"}, err: "field Source must not be specified", code: 125},
		{name: "tmpfs defaults", flags: []string{"--tmpfs", "/m"}, args: sh("grep ' /m ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | grep -c -e '^nosuid$' -e '^nodev$' -e '^noexec$' -e '^rw$'; stat -c %a /m"), out: "4\n1777\n"},
		{name: "tmpfs exec", flags: []string{"--tmpfs", "/m:exec,size=1m,uid=7,mode=700"}, args: sh("grep ' /m ' /proc/mounts | grep -c noexec; stat -c %a:%u /m"), out: "0\n700:7\n"},
		{name: "tmpfs unknown option", flags: []string{"--tmpfs", "/m:foo"}, args: []string{"true"}, err: `(?i)invalid tmpfs option`, code: 125},
		{name: "tmpfs full", flags: []string{"--tmpfs", "/m:size=1m"}, args: sh("dd if=/dev/zero of=/m/x bs=1M count=2 2>&1 | grep -c 'No space'"), out: "1\n"},
	})
}
