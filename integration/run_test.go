package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runCase is one `docker run --rm` FLAGS IMAGE ARGS.
type runCase struct {
	name  string
	flags []string
	image string // "": busybox
	args  []string
	stdin string
	out   string // regular expression for all of stdout; "" is empty output
	err   string // regular expression that stderr must contain
	code  int
}

func sh(script string) []string { return []string{"sh", "-c", script} }

func (c runCase) test(t *testing.T) {
	t.Parallel()
	offered(t, "run "+c.name)
	if c.image == "" {
		c.image = "busybox"
	}
	args := append([]string{"run", "--rm"}, c.flags...)
	r := dockerIn(t, c.stdin, append(append(args, image(c.image)), c.args...)...)
	if r.Code != c.code || !regexp.MustCompile(`\A(?:`+c.out+`)\z`).MatchString(r.Out) || !regexp.MustCompile(c.err).MatchString(r.Err) {
		t.Errorf("%s\nwant exit code %d, stdout %q, stderr %q", r, c.code, c.out, c.err)
	}
}

func TestRunFlags(t *testing.T) {
	file := tempFile(t, "env", "# comment\nONE=1\nTWO=two words\nFROM_HOST\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []runCase{
		{name: "output", args: sh("echo out; echo err >&2"), out: "out\n", err: `\Aerr\n\z`},
		{name: "i", flags: []string{"-i"}, args: []string{"cat"}, stdin: strings.Repeat("x", 5000), out: "x{1000}x{1000}x{1000}x{1000}x{1000}"},
		{name: "i with exit before eof", flags: []string{"-i"}, args: []string{"true"}, stdin: "unread"},
		{name: "no stdin", args: []string{"cat"}, stdin: "unread"},
		{name: "e", flags: []string{"-e", "A=b c", "-e", "EMPTY="}, args: sh(`echo "$A" "${EMPTY-unset}."`), out: "b c \\.\n"},
		{name: "env-file", flags: []string{"--env-file", file}, args: sh(`echo "$ONE $TWO"`), out: "1 two words\n"},
		{name: "env of image", image: "user", args: sh(`echo "$FROM_IMAGE $HOME $PWD"`), out: "yes /home/app /home/app\n"},
		{name: "w", flags: []string{"-w", "/made/here"}, args: sh("pwd; ls -ld . | cut -c1-10"), out: "/made/here\ndrwxr-xr-x\n"},
		{name: "user of image", image: "user", args: []string{"id"}, out: `uid=1000\(app\) gid=1000\(app\) groups=(1000\(app\),)?50\(staff\),60\(wheel\)(,1000\(app\))?\n`},
		{name: "u name", flags: []string{"-u", "app"}, args: []string{"id"}, out: `uid=1000\(app\) gid=1000\(app\) groups=(1000\(app\),)?50\(staff\),60\(wheel\)(,1000\(app\))?\n`},
		{name: "u number", flags: []string{"-u", "1234"}, args: []string{"id"}, out: `uid=1234 gid=0\(root\)( groups=0\(root\))?\n`},
		{name: "u number of passwd", flags: []string{"-u", "1000"}, args: []string{"id", "-G"}, out: "(1000 )?50 60( 1000)?\n"},
		{name: "u name and group", flags: []string{"-u", "app:staff"}, args: []string{"id"}, out: `uid=1000\(app\) gid=50\(staff\)( groups=50\(staff\))?\n`},
		{name: "u numbers", flags: []string{"-u", "1:2"}, args: []string{"id"}, out: `uid=1 gid=2( groups=2)?\n`},
		{name: "group-add", flags: []string{"-u", "1:2", "--group-add", "staff", "--group-add", "77"}, args: []string{"id", "-G"}, out: "2 50 77\n"},
		{name: "u unknown", flags: []string{"-u", "nobody9"}, args: []string{"id"}, err: "unable to find user nobody9", code: 125},
		{name: "entrypoint of image", image: "entry", out: "entry cmd\n"},
		{name: "arguments replace Cmd", image: "entry", args: []string{"x", "y z"}, out: "entry x y z\n"},
		{name: "entrypoint", image: "entry", flags: []string{"--entrypoint", "/bin/printf"}, args: []string{"%s.", "a", "b"}, out: `a\.b\.`},
		{name: "hostname", flags: []string{"--hostname", "here.example"}, args: sh("hostname; grep -c here.example /etc/hosts"), out: "here.example\n1\n"},
		{name: "v host", flags: []string{"-v", dir + ":/m"}, args: sh("cat /m/f; echo new >/m/g"), out: "host"},
		{name: "v host ro", flags: []string{"-v", dir + ":/m:ro"}, args: sh("cat /m/f; echo no >/m/h"), out: "host", err: "Read-only file system", code: 1},
		{name: "mount bind", flags: []string{"--mount", "type=bind,src=" + dir + ",dst=/m,readonly"}, args: sh("cat /m/f; touch /m/h"), out: "host", err: "Read-only file system", code: 1},
		{name: "mount of no folder", flags: []string{"--mount", "type=bind,src=/no/such,dst=/m"}, args: []string{"true"}, err: "bind source path does not exist", code: 125},
		{name: "tmpfs", flags: []string{"--tmpfs", "/scratch:size=1m,mode=1777"}, args: sh("grep -c ' /scratch tmpfs rw,' /proc/mounts; df -k /scratch | awk 'NR == 2 {print $2}'; ls -ld /scratch | cut -c1-10"), out: `1\n1024\ndrwxrwxrwt\n`},
		{name: "mount tmpfs", flags: []string{"--mount", "type=tmpfs,dst=/scratch,tmpfs-size=1048576"}, args: sh("grep -c ' /scratch tmpfs rw,' /proc/mounts; df -k /scratch | awk 'NR == 2 {print $2}'"), out: `1\n1024\n`},
		{name: "read-only", flags: []string{"--read-only", "--tmpfs", "/w"}, args: sh("touch /w/a && echo w; touch /x"), out: "w\n", err: "Read-only file system", code: 1},
		{name: "network none", flags: []string{"--network", "none"}, args: sh("ifconfig -a | grep -o '^[a-z0-9]*' | grep -v -e sit0 -e tunl0 -e ip6tnl0 -e pflog0"), out: "lo\n"},
		{name: "network host", flags: []string{"--network", "host"}, args: sh("readlink /proc/self/ns/net"), out: nsOf(t, "net")},
		{name: "network bridge", args: sh("ifconfig eth0 | grep -c 'inet addr'; route -n | grep -c ^0.0.0.0; grep -c . /etc/resolv.conf >/dev/null && echo resolv"), out: "1\n1\nresolv\n"},
		{name: "label", flags: []string{"--label", "a=b"}, args: []string{"true"}},
		{name: "ulimit", flags: []string{"--ulimit", "nofile=123:456"}, args: sh("ulimit -n; ulimit -Hn"), out: "123\n456\n"},
		{name: "memory", flags: []string{"--memory", "64m"}, args: sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"), out: "67108864\n"},
		{name: "cpus", flags: []string{"--cpus", "0.5"}, args: sh("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max"), out: "50000( 100000)?\n"},
		{name: "pids-limit", flags: []string{"--pids-limit", "33"}, args: sh("cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"), out: "33\n"},
		{name: "network unknown", flags: []string{"--network", "nosuchnet"}, args: []string{"true"}, err: "network nosuchnet not found", code: 125},
		{name: "shm-size", flags: []string{"--shm-size", "2m"}, args: sh("grep -c ' /dev/shm tmpfs rw,' /proc/mounts; df -k /dev/shm | awk 'NR == 2 {print $2}'"), out: `1\n2048\n`},
		{name: "add-host", flags: []string{"--add-host", "other:10.1.2.3"}, args: sh("grep other /etc/hosts"), out: `10.1.2.3\s+other\n`},
		{name: "dns", flags: []string{"--dns", "192.0.2.1", "--dns-search", "x.example"}, args: sh("grep -v '^#' /etc/resolv.conf"), out: `(?s).*nameserver 192.0.2.1\n.*|(?s).*search x.example\n.*nameserver 192.0.2.1\n.*`},
	} {
		t.Run(c.name, c.test)
	}
}

// Docker's documentation, docker container run, "Exit status".
func TestRunExitCodes(t *testing.T) {
	for _, c := range []runCase{
		{name: "0", args: []string{"true"}},
		{name: "of the process", args: sh("exit 42"), code: 42},
		{name: "bad flag", flags: []string{"--nosuchflag"}, args: []string{"true"}, err: "unknown flag: --nosuchflag", code: 125},
		{name: "no such image", image: "nosuch", args: []string{"true"}, err: "(?s)Unable to find image.*(not found|manifest unknown|does not exist)", code: 125},
		{name: "not executable", args: []string{"/noexec"}, err: "permission denied", code: 126},
		{name: "a folder", args: []string{"/etc"}, err: "permission denied|is a directory", code: 126},
		{name: "not found", args: []string{"nosuchcommand"}, err: "executable file not found", code: 127},
		{name: "no such path", args: []string{"/no/such"}, err: "no such file or directory", code: 127},
		{name: "SIGTERM", args: sh("sh -c 'kill -TERM $$'; exit $?"), code: 143},
		{name: "SIGSEGV", args: sh("sh -c 'kill -SEGV $$'; exit $?"), err: "", code: 139},
	} {
		t.Run(c.name, c.test)
	}
}

func TestRunSecurity(t *testing.T) {
	const caps = "grep CapEff /proc/self/status | cut -f2"
	for _, c := range []runCase{
		{name: "default capabilities", args: sh(caps), out: "00000000a80425fb\n"},
		{name: "cap-drop", flags: []string{"--cap-drop", "ALL"}, args: sh(caps), out: "0000000000000000\n"},
		{name: "cap-drop and add", flags: []string{"--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "CAP_CHOWN"}, args: sh(caps), out: "0000000000001001\n"},
		{name: "no capabilities as user", flags: []string{"-u", "1000"}, args: sh(caps), out: "0000000000000000\n"},
		{name: "bad capability", flags: []string{"--cap-add", "NOSUCH"}, args: []string{"true"}, err: `(?i)(invalid|unknown).*capability`, code: 125},
		{name: "seccomp", args: sh("grep -w Seccomp: /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2"), out: "2\n0\n"},
		{name: "seccomp forbids", args: sh("unshare -m true"), err: "Operation not permitted", code: 1},
		{name: "unconfined", flags: []string{"--security-opt", "seccomp=unconfined"}, args: sh("grep -w Seccomp: /proc/self/status | cut -f2"), out: "0\n"},
		{name: "no-new-privileges", flags: []string{"--security-opt", "no-new-privileges"}, args: sh("grep NoNewPrivs /proc/self/status | cut -f2"), out: "1\n"},
		{name: "masked", args: sh("cat /proc/kcore | wc -c; ls /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w"), out: "0\n0\n"},
		{name: "read-only proc", args: sh("echo 1 >/proc/sys/kernel/panic"), err: "Read-only file system", code: 1},
		{name: "read-only sys", args: sh("touch /sys/kernel/x"), err: "Read-only file system", code: 1},
		{name: "devices", args: sh("ls /dev | grep -v -e '^mqueue$' -e '^core$' | sort | tr '\\n' ' '; mknod /tmp/d b 254 0 && cat /tmp/d"), out: "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ", err: "Operation not permitted", code: 1},
		{name: "mount", args: sh("mount -t tmpfs none /tmp"), err: "(?i)permission denied|operation not permitted", code: 1},
		{name: "pid namespace", args: sh("echo $$"), out: "1\n"},
		{name: "init", flags: []string{"--init"}, args: sh("cat /proc/1/comm; test $$ != 1 && echo child"), out: "(docker-init|brig-shim|brig-init|tini|init|catatonit)\nchild\n"},
		{name: "privileged", flags: []string{"--privileged"}, args: sh("mount -t tmpfs none /tmp && echo mounted; ls /dev | grep -c . >/dev/null; grep -w Seccomp: /proc/self/status | cut -f2"), out: "mounted\n0\n"},
	} {
		if reason, differs := dockerdDiffers["run "+c.name]; differs && !bed.server.Owned {
			t.Logf("left out: %s: %s", c.name, reason)
			continue
		}
		t.Run(c.name, c.test)
	}
}

func TestRunNames(t *testing.T) {
	name := fresh("named")
	id := container(t, "--name", name, "--label", "a=b", "--label", "c", "--stop-signal", "SIGUSR1", "--restart", "no", image("busybox"), "sleep", "600")
	equal(t, "name", inspect(t, id, "{{.Name}}"), "/"+name)
	equal(t, "by prefix", inspect(t, id[:12], "{{.Id}}"), id)
	equal(t, "labels", inspect(t, name, `{{index .Config.Labels "a"}}{{index .Config.Labels "c"}}{{len .Config.Labels}}`), "b2")
	equal(t, "stop signal", inspect(t, name, "{{.Config.StopSignal}}"), "SIGUSR1")
	equal(t, "restart policy", inspect(t, name, "{{.HostConfig.RestartPolicy.Name}}"), "no")
	equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}"), "running true 0")
	match(t, "address", inspect(t, name, "{{.NetworkSettings.Networks.bridge.IPAddress}}"), `^\d+\.\d+\.\d+\.\d+$`)
	fails(t, 125, `Conflict. The container name "/`+name+`" is already in use by container`, "run", "--name", name, image("busybox"), "true")
	fails(t, 125, "Invalid container name", "run", "--name", "a/b", image("busybox"), "true")
	match(t, "random name", inspect(t, container(t, image("busybox"), "true"), "{{.Name}}"), `^/[a-z]+_[a-z]+\d?$`)
}

func TestRunPublish(t *testing.T) {
	id := container(t, "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", "mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w")
	port := ok(t, "port", id, "80")
	match(t, "docker port", port, `^127\.0\.0\.1:\d+$`)
	equal(t, "docker port, all", ok(t, "port", id), "80/tcp -> "+port)
	eventually(t, "published port", func() (bool, string) {
		r := docker(t, "run", "--rm", "--network", "host", image("busybox"), "wget", "-q", "-O-", "http://"+port+"/")
		return r.Out == "served\n", r.String()
	})
	fails(t, 1, "No public port '81", "port", id, "81")
	match(t, "ps", ok(t, "ps", "--filter", "id="+id, "--format", "{{.Ports}}"), "^"+regexp.QuoteMeta(port)+"->80/tcp$")
	fails(t, 125, "port is already allocated|address already in use", "run", "--rm", "-p", port+":80", image("busybox"), "true")
}

func TestRunVolumes(t *testing.T) {
	v := fresh("vol")
	t.Cleanup(func() { docker(t, "volume", "rm", "-f", v) })
	ok(t, "run", "--rm", "-v", v+":/v", image("busybox"), "sh", "-c", "echo kept >/v/f")
	equal(t, "named volume", ok(t, "run", "--rm", "--mount", "type=volume,src="+v+",dst=/v", image("busybox"), "cat", "/v/f"), "kept")
	equal(t, "volume ls", ok(t, "volume", "ls", "-q", "--filter", "name="+v), v)
	id := container(t, image("user"), "sh", "-c", "ls -n /vol | tail -1 | awk '{print $3}'; cat /vol/seed; echo; sleep 600")
	logged(t, id, "1000\nseed")
	anonymous := inspect(t, id, `{{range .Mounts}}{{.Name}}{{end}}`)
	match(t, "anonymous volume", anonymous, "^[0-9a-f]{64}$")
	equal(t, "its place", inspect(t, id, `{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}`), "volume /vol true")
	ok(t, "rm", "-f", "-v", id)
	fails(t, 1, "(?i)no such volume", "volume", "inspect", anonymous)
	ok(t, "run", "--rm", image("user"), "true")
	id = container(t, "-v", v+":/vol", image("busybox"), "sleep", "600")
	fails(t, 1, "volume is in use", "volume", "rm", v)
	ok(t, "rm", "-f", "-v", id)
	equal(t, "named volume outlives rm -v", ok(t, "volume", "ls", "-q", "--filter", "name="+v), v)
	equal(t, "volume rm", ok(t, "volume", "rm", v), v)
}
