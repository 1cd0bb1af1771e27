package integration

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// runAll runs the cases side by side and returns when all have ended. What the suite knows dockerd 20.10 to do otherwise is left out there.
func runAll(t *testing.T, cases []runCase) {
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			if reason, differs := dockerdDiffers["run "+c.name]; differs && !bed.server.Owned {
				t.Logf("left out: %s: %s", c.name, reason)
				continue
			}
			t.Run(c.name, c.test)
		}
	})
}

func TestNamespaces(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host = regexp.QuoteMeta(host) + "\n"
	open, private, ended := fresh("open"), fresh("private"), fresh("ended")
	container(t, "--name", open, "--ipc", "shareable", image("busybox"), "sh", "-c", "echo given >/dev/shm/f; exec sleep 600")
	container(t, "--name", private, image("busybox"), "sleep", "600")
	made(t, ok(t, "create", "--name", ended, "--ipc", "shareable", image("busybox"), "true"))
	logged := func() (bool, string) {
		r := docker(t, "exec", open, "cat", "/dev/shm/f")
		return r.Code == 0, r.String()
	}
	eventually(t, "the donor's file", logged)
	ns := func(kind string) []string { return []string{"readlink", "/proc/self/ns/" + kind} }
	of := func(kind string) string {
		if hostDiffers["run ns"] != "" {
			return "" // no case asks for it
		}
		return regexp.QuoteMeta(ok(t, "exec", open, "readlink", "/proc/self/ns/"+kind)) + "\n"
	}
	runAll(t, []runCase{
		{name: "pid host", flags: []string{"--pid", "host"}, args: ns("pid"), out: nsOf(t, "pid")},
		{name: "pid container", flags: []string{"--pid", "container:" + open}, args: sh("readlink /proc/self/ns/pid; cat /proc/1/comm"), out: of("pid") + "sleep\n"},
		{name: "pid of an ended one", flags: []string{"--pid", "container:" + ended}, args: []string{"true"}, err: "is not running|non running container", code: 125},
		{name: "pid of none", flags: []string{"--pid", "container:nosuchone"}, args: []string{"true"}, err: "No such container: nosuchone", code: 125},
		{name: "pid unknown", flags: []string{"--pid", "foo"}, args: []string{"true"}, err: "(?i)invalid PID mode", code: 125},
		{name: "ipc host", flags: []string{"--ipc", "host"}, args: ns("ipc"), out: nsOf(t, "ipc")},
		{name: "ipc none", flags: []string{"--ipc", "none"}, args: sh("grep -c ' /dev/shm ' /proc/mounts; ls /dev/shm | wc -l"), out: "0\n0\n"},
		{name: "ipc private", flags: []string{"--ipc", "private"}, args: sh("grep -c -E ' /dev/shm tmpfs rw,(nosuid,nodev,noexec|noexec,nosuid)' /proc/mounts"), out: "1\n"},
		{name: "ipc container", flags: []string{"--ipc", "container:" + open}, args: sh("readlink /proc/self/ns/ipc; cat /dev/shm/f"), out: of("ipc") + "given\n"},
		{name: "ipc of a private one", flags: []string{"--ipc", "container:" + private}, args: []string{"true"}, err: "non-shareable IPC \\(hint: use IpcMode:shareable for the donor container\\)", code: 125},
		{name: "ipc of an ended one", flags: []string{"--ipc", "container:" + ended}, args: []string{"true"}, err: "is not running|non running container", code: 125},
		{name: "ipc of none", flags: []string{"--ipc", "container:nosuchone"}, args: []string{"true"}, err: "No such container: nosuchone", code: 125},
		{name: "ipc unknown", flags: []string{"--ipc", "foo"}, args: []string{"true"}, err: "(?i)invalid IPC mode", code: 125},
		{name: "uts host", flags: []string{"--uts", "host"}, args: sh("readlink /proc/self/ns/uts; hostname"), out: nsOf(t, "uts") + host},
		{name: "uts host and hostname", flags: []string{"--uts", "host", "--hostname", "x"}, args: []string{"true"}, err: "conflicting options: hostname and the UTS mode", code: 125},
		{name: "uts unknown", flags: []string{"--uts", "foo"}, args: []string{"true"}, err: "(?i)invalid UTS mode", code: 125},
		{name: "userns host", flags: []string{"--userns", "host"}, args: ns("user"), out: nsOf(t, "user")},
		{name: "userns unknown", flags: []string{"--userns", "foo"}, args: []string{"true"}, err: "(?i)invalid USER", code: 125},
		{name: "cgroupns host", flags: []string{"--cgroupns", "host"}, args: ns("cgroup"), out: nsOf(t, "cgroup")},
		{name: "cgroupns private", flags: []string{"--cgroupns", "private"}, args: sh("grep -v :/$ /proc/self/cgroup | grep -v freezer: | wc -l"), out: "0\n"},
		{name: "network container", flags: []string{"--network", "container:" + open}, args: sh("readlink /proc/self/ns/net; hostname; cmp /etc/hosts /proc/self/root/etc/hosts"), out: of("net") + regexp.QuoteMeta(ok(t, "exec", open, "hostname")) + "\n"},
		{name: "network of an ended one", flags: []string{"--network", "container:" + ended}, args: []string{"true"}, err: "cannot join network of a non running container", code: 125},
		{name: "network of none", flags: []string{"--network", "container:nosuchone"}, args: []string{"true"}, err: "No such container: nosuchone", code: 125},
		{name: "network container and hostname", flags: []string{"--network", "container:" + open, "--hostname", "x"}, args: []string{"true"}, err: "conflicting options: hostname and the network mode", code: 125},
		{name: "network container and dns", flags: []string{"--network", "container:" + open, "--dns", "1.1.1.1"}, args: []string{"true"}, err: "conflicting options: dns and the network mode", code: 125},
		{name: "network container and add-host", flags: []string{"--network", "container:" + open, "--add-host", "a:1.1.1.1"}, args: []string{"true"}, err: "conflicting options: custom host-to-IP mapping and the network mode", code: 125},
		{name: "network container and publish", flags: []string{"--network", "container:" + open, "-p", "80"}, args: []string{"true"}, err: "conflicting options: port publishing and the container type network mode", code: 125},
		{name: "network container and expose", flags: []string{"--network", "container:" + open, "--expose", "80"}, args: []string{"true"}, err: "conflicting options: port exposing and the container type network mode", code: 125},
		{name: "network container and mac", flags: []string{"--network", "container:" + open, "--mac-address", "02:42:ac:11:00:09"}, args: []string{"true"}, err: "conflicting options: mac-address and the network mode", code: 125},
		{name: "runtime unknown", flags: []string{"--runtime", "nosuch"}, args: []string{"true"}, err: "(?i)unknown (or invalid )?runtime.*nosuch", code: 125},
		{name: "isolation", flags: []string{"--isolation", "hyperv"}, args: []string{"true"}, err: "(?i)invalid isolation.*hyperv", code: 125},
		{name: "isolation default", flags: []string{"--isolation", "default"}, args: []string{"true"}},
		{name: "gpus", flags: []string{"--gpus", "all"}, args: []string{"true"}, err: `could not select device driver "" with capabilities: \[\[gpu\]\]`, code: 125},
	})
}

func TestSysctls(t *testing.T) {
	runAll(t, []runCase{
		{name: "sysctl", flags: []string{"--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.msgmax=10000", "--sysctl", "fs.mqueue.msg_max=20"},
			args: sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max"), out: "0\n10000\n20\n"},
		{name: "sysctl of the host", flags: []string{"--sysctl", "kernel.panic=1"}, args: []string{"true"}, err: "(?i)sysctl.*kernel.panic.*(not|whitelist)", code: 125},
		{name: "sysctl net with net host", flags: []string{"--network", "host", "--sysctl", "net.ipv4.ip_forward=1"}, args: []string{"true"}, err: `(?i)sysctl.*net.ipv4.ip_forward.*not allowed.*host`, code: 125},
		{name: "sysctl ipc with ipc host", flags: []string{"--ipc", "host", "--sysctl", "kernel.msgmax=10000"}, args: []string{"true"}, err: `(?i)sysctl.*kernel.msgmax.*not allowed.*host`, code: 125},
		{name: "sysctl unknown", flags: []string{"--sysctl", "net.nosuch=1"}, args: []string{"true"}, err: "/proc/sys/net/nosuch: no such file or directory", code: 127},
		{name: "low ports", flags: []string{"-u", "1000"}, args: sh("httpd -p 80 && echo bound"), out: "bound\n"},
		{name: "low ports without a network", flags: []string{"-u", "1000", "--network", "none"}, args: sh("httpd -p 80 && echo bound"), out: "bound\n"},
	})
}

func TestNames(t *testing.T) {
	runAll(t, []runCase{
		{name: "domainname", flags: []string{"--hostname", "h", "--domainname", "example.org"}, args: sh("cat /proc/sys/kernel/domainname"), out: "example.org\n"},
		{name: "domainname in hosts", flags: []string{"--hostname", "h", "--domainname", "example.org"}, args: sh("hostname; grep -c 'h.example.org h$' /etc/hosts"), out: "h\n1\n"},
		{name: "full hostname", flags: []string{"--hostname", "h.example.org"}, args: sh("hostname; grep -c '\th.example.org h$' /etc/hosts"), out: "h.example.org\n1\n"},
		{name: "add-host in the host's network", flags: []string{"--network", "host", "--add-host", "other:10.1.2.3"}, args: sh("grep -v :: /etc/hosts"), out: "127.0.0.1\tlocalhost\n10.1.2.3\tother\n"},
		{name: "host-gateway", flags: []string{"--add-host", "gw:host-gateway"}, args: sh(`test "$(grep gw /etc/hosts | cut -f1)" = "$(route -n | awk '$1 == "0.0.0.0" {print $2}')" && echo same`), out: "same\n"},
		{name: "add-host v6", flags: []string{"--add-host", "six:::1", "--add-host", "two=[::2]"}, args: sh("grep -e six -e two$ /etc/hosts | cut -f1"), out: "::1\n::2\n"},
		{name: "add-host without an address", flags: []string{"--add-host", "x"}, args: []string{"true"}, err: "bad format for add-host", code: 125},
		{name: "dns options", flags: []string{"--dns", "192.0.2.7", "--dns", "192.0.2.8", "--dns-search", "a.example", "--dns-search", "b.example", "--dns-option", "ndots:3", "--dns-option", "rotate"},
			args: sh("grep -v '^#' /etc/resolv.conf | grep -v '^$' | sort"), out: "nameserver 192.0.2.7\nnameserver 192.0.2.8\noptions ndots:3 rotate\nsearch a.example b.example\n"},
		{name: "dns-search none", flags: []string{"--dns-search", "."}, args: sh("grep -c '^search' /etc/resolv.conf"), out: "0\n", code: 1},
		{name: "dns no address", flags: []string{"--dns", "x"}, args: []string{"true"}, err: "IP address is not correctly formatted: x", code: 125},
		{name: "mac-address", flags: []string{"--mac-address", "02:42:ac:11:00:99"}, args: sh("ifconfig eth0 | grep -o 'HWaddr [0-9A-F:]*'"), out: "HWaddr 02:42:AC:11:00:99\n"},
		{name: "mac-address malformed", flags: []string{"--mac-address", "02:42"}, args: []string{"true"}, err: "(?i)is not a valid mac address|invalid mac", code: 125},
		{name: "hostname too long", flags: []string{"--hostname", strings.Repeat("h", 65)}, args: []string{"true"}, err: "(?i)too long|invalid", code: 125},
		{name: "w relative", flags: []string{"-w", "x"}, args: []string{"true"}, err: "the working directory 'x' is invalid, it needs to be an absolute path", code: 125},
		{name: "entrypoint empty", image: "entry", flags: []string{"--entrypoint", ""}, args: sh("echo bare"), out: "bare\n"},
		{name: "entrypoint empty and no command", image: "entry", flags: []string{"--entrypoint", ""}, err: "(?i)no command specified", code: 125},
		{name: "e without value", image: "user", flags: []string{"-e", "FROM_IMAGE", "-e", "A=", "-e", "B=x=y"}, args: sh(`echo "${FROM_IMAGE-unset} ${A-unset} $B"`), out: "unset  x=y\n"},
		{name: "e over the image's", image: "user", flags: []string{"-e", "FROM_IMAGE=no", "-e", "HOME=/h"}, args: sh(`echo "$FROM_IMAGE $HOME"`), out: "no /h\n"},
		{name: "e without name", flags: []string{"-e", "=x"}, args: []string{"true"}, err: "invalid environment variable: =x", code: 125},
		{name: "u too large", flags: []string{"-u", "4294967296"}, args: []string{"true"}, err: "(?i)uids and gids must be in range|unable to find user", code: 125},
		{name: "u unknown group", flags: []string{"-u", "0:nosuch"}, args: []string{"true"}, err: "unable to find group nosuch", code: 125},
		{name: "group-add unknown", flags: []string{"--group-add", "nosuch"}, args: []string{"true"}, err: "(?i)unable to find group nosuch", code: 125},
		{name: "platform", flags: []string{"--platform", "nosuch/arch/x/y"}, args: []string{"true"}, err: `(?i)invalid|nosuch`, code: 125},
	})
}

func TestDevices(t *testing.T) {
	profile := tempFile(t, "seccomp.json", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO"}]}`)
	broken := tempFile(t, "broken.json", `{"defaultAction":`)
	const read = "dd if=/dev/given bs=1 count=1 2>/dev/null | wc -c"
	runAll(t, []runCase{
		{name: "device", flags: []string{"--device", "/dev/fuse:/dev/given"}, args: sh("ls -l /dev/given | cut -c1; stat -c %t:%T /dev/given; exec 3<>/dev/given && echo open"), out: "c\na:e5\nopen\n"},
		{name: "device ro", flags: []string{"--device", "/dev/fuse:/dev/given:r"}, args: sh("exec 3</dev/given && echo read; : >/dev/given"), out: "read\n", err: "(?i)operation not permitted", code: 1},
		{name: "device without", args: sh("mknod /given c 10 229; exec 3</given"), err: "(?i)operation not permitted", code: 1},
		{name: "device-cgroup-rule", flags: []string{"--device-cgroup-rule", "c 10:229 r"}, args: sh("mknod /given c 10 229; exec 3</given && echo read"), out: "read\n"},
		{name: "device-cgroup-rule malformed", flags: []string{"--device-cgroup-rule", "c 1:3"}, args: []string{"true"}, err: "(?i)invalid device cgroup (rule )?format", code: 125},
		{name: "device directory", flags: []string{"--device", "/dev/net:/dev/many"}, args: sh("ls /dev/many"), out: "tun\n"},
		{name: "device missing", flags: []string{"--device", "/dev/nosuch"}, args: []string{"true"}, err: `error gathering device information while adding custom device "/dev/nosuch": no such file or directory`, code: 127},
		{name: "device a file", flags: []string{"--device", "/etc/passwd"}, args: []string{"true"}, err: `error gathering device information while adding custom device "/etc/passwd": not a device node`, code: 125},
		{name: "device mode", flags: []string{"--device", "/dev/null:/dev/x:foo"}, args: []string{"true"}, err: "invalid device mode: foo|bad mode specified: foo", code: 125},
		{name: "device relative", flags: []string{"--device", "null"}, args: []string{"true"}, err: "(?i)not an absolute path", code: 125},
		{name: "seccomp file", flags: []string{"--security-opt", "seccomp=" + profile}, args: sh("touch /x; chmod 600 /x; unshare -U true && echo unshared"), out: "(unshared\n)?", err: "(?i)chmod.*not permitted"},
		{name: "seccomp broken", flags: []string{"--security-opt", "seccomp=" + broken}, args: []string{"true"}, err: "(?i)seccomp profile", code: 125},
		{name: "seccomp missing", flags: []string{"--security-opt", "seccomp=/no/such.json"}, args: []string{"true"}, err: "(?i)opening seccomp profile", code: 125},
		{name: "systempaths", flags: []string{"--security-opt", "systempaths=unconfined"}, args: sh("grep -c -e ' /proc/kcore ' -e ' /proc/sys ' -e ' /sys/firmware ' /proc/mounts"), out: "0\n", code: 1},
		{name: "no-new-privileges false", flags: []string{"--security-opt", "no-new-privileges=false"}, args: sh("grep NoNewPrivs /proc/self/status | cut -f2"), out: "0\n"},
		{name: "apparmor unconfined", flags: []string{"--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"}, args: []string{"true"}},
		{name: "security-opt unknown", flags: []string{"--security-opt", "foo=bar"}, args: []string{"true"}, err: "invalid --security-opt 2: \"foo=bar\"", code: 125},
		{name: "security-opt without value", flags: []string{"--security-opt", "foo"}, args: []string{"true"}, err: "(?i)invalid --security-opt", code: 125},
		{name: "cap-add all but", flags: []string{"--cap-add", "CHOWN", "--cap-drop", "all"}, args: sh("grep CapEff /proc/self/status | cut -f2"), out: "0000000000000001\n"},
		{name: "cap bounding as user", flags: []string{"-u", "1000", "--cap-drop", "KILL"}, args: sh("grep -e CapBnd -e CapEff /proc/self/status | cut -f2"), out: "0000000000000000\n00000000a80425db\n"},
		{name: "device readable", flags: []string{"--device", "/dev/zero:/dev/given"}, args: sh(read), out: "1\n"},
		{name: "read-only tmpfs", flags: []string{"--read-only", "--tmpfs", "/t:ro"}, args: sh("touch /t/x /dev/shm/y; echo >/etc/hosts"), err: "(?s)/t/x: Read-only.*Read-only", code: 1},
	})
}
