package integration

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// appcImage imports an ACI with a shell, whose app has the given fields (JSON, after exec, user and group), and returns docker's name for it.
func appcImage(t *testing.T, name, script, user, fields string) string {
	t.Helper()
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/%s","labels":[{"name":"version","value":"1"}],
		"app":{"exec":["/bin/sh","-c",%q],"user":%q,"group":%q%s}}`, name, script, user, user, fields)
	_, ref := imported(t, aciOf(t, manifest, map[string]string{"rootfs/bin/sh": string(shell), "rootfs/data/": "", "rootfs/full/x": "image", "rootfs/file": "image"}))
	return ref
}

// outcome runs a container of an ACI to its end and gives its exit code and log.
func outcome(t *testing.T, args ...string) (code int, log string) {
	t.Helper()
	name := fresh("appc")
	r := docker(t, append([]string{"run", "-d", "--name", name}, args...)...)
	t.Cleanup(func() { docker(t, "rm", "-f", "-v", name) })
	if r.Code != 0 {
		return r.Code, r.Err
	}
	fmt.Sscan(ok(t, "wait", name), &code)
	logs := docker(t, "logs", name)
	return code, logs.Out + logs.Err
}

// TestContainersOfACIs runs with docker what only an ACI's manifest can say: a container is a pod of one app.
func TestContainersOfACIs(t *testing.T) {
	own(t)
	handlers := func(pre, post string) string {
		return fmt.Sprintf(`,"environment":[{"name":"WORD","value":"hey"}],"eventHandlers":[{"name":"pre-start","exec":["/bin/sh","-c",%q]},{"name":"post-stop","exec":["/bin/sh","-c",%q]}]`, pre, post)
	}
	isolator := func(name, value string) string {
		return fmt.Sprintf(`,"isolators":[{"name":%q,"value":%s}]`, name, value)
	}
	for _, c := range []struct {
		name, script, user, fields string
		args                       []string
		code                       int
		want                       string
	}{
		{"handlers", "echo main $(cat /made); echo 2 > /made; exit 5", "0", handlers("echo pre $WORD; echo 1 > /made", "echo post $(cat /made)"), nil, 5, "pre hey\nmain 1\npost 2\n"},
		{"prefails", "echo main", "0", handlers("echo because >&2; exit 3", "echo post"), nil, 125, `the pre-start handler "/bin/sh": ended with exit code 3: because`},
		{"postfails", "echo main", "0", handlers("true", "exit 3"), nil, 0, "main\n"},
		{"owner", "id", "/data", `,"supplementaryGIDs":[7,9]`, nil, 0, "uid=0 gid=0 groups=0,7,9\n"},
		{"number", "id", "1000", `,"supplementaryGIDs":[7]`, nil, 0, "uid=1000 gid=1000 groups=7,1000\n"},
		{"another user", "id", "1000", `,"supplementaryGIDs":[7]`, []string{"-u", "5:6"}, 0, "uid=5 gid=6 groups=6\n"},
		{"no directory", "pwd", "0", `,"workingDirectory":"/none"`, nil, 125, "the working directory /none does not exist in the image or its volumes"},
		{"directory", "pwd", "0", `,"workingDirectory":"/none"`, []string{"-w", "/also/none"}, 0, "/also/none\n"},
		{"retained", "grep CapBnd /proc/self/status", "0", isolator("os/linux/capabilities-retain-set", `{"set":["CAP_KILL"]}`), nil, 0, "CapBnd:\t0000000000000020\n"},
		{"removed", "grep CapBnd /proc/self/status", "0", isolator("os/linux/capabilities-remove-set", `{"set":["CAP_KILL","CAP_CHOWN"]}`), nil, 0, "CapBnd:\t00000000a80425da\n"},
		{"given", "grep CapBnd /proc/self/status", "0", isolator("os/linux/capabilities-retain-set", `{"set":["CAP_KILL"]}`), []string{"--cap-drop", "KILL"}, 0, "CapBnd:\t00000000a80425db\n"},
		{"privileges", "grep NoNewPrivs /proc/self/status", "0", isolator("os/linux/no-new-privileges", `true`), nil, 0, "NoNewPrivs:\t1\n"},
		{"syscalls", "mkdir /d", "0", isolator("os/linux/seccomp-remove-set", `{"set":["mkdir","mkdirat"],"errno":"ENOTSUP"}`), nil, 1, "mkdir: can't create directory '/d': Operation not supported\n"},
		{"killed", "mkdir /d", "0", isolator("os/linux/seccomp-remove-set", `{"set":["mkdir","mkdirat"]}`), nil, 159, ""},
		{"oom score", "cat /proc/self/oom_score_adj", "0", isolator("os/linux/oom-score-adj", `300`), nil, 0, "300\n"},
		{"unknown", "echo yes", "0", isolator("example.com/own", `{"a":1}`), nil, 0, "yes\n"},
		{"apparmor", "echo yes", "0", isolator("os/linux/apparmor-profile", `{"profile":"x"}`), nil, 125, "brig has no AppArmor profiles"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref := appcImage(t, strings.ReplaceAll(c.name, " ", "-"), c.script, c.user, c.fields)
			code, log := outcome(t, append(c.args, ref)...)
			if code != c.code || (code == 125 && !strings.Contains(log, c.want)) || (code != 125 && log != c.want) {
				t.Errorf("exit code %d, %q; want %d, %q", code, log, c.code, c.want)
			}
		})
	}
	ref := appcImage(t, "limits", "true", "0", `,"isolators":[{"name":"resource/memory","value":{"limit":"64Mi","request":"32Mi"}},{"name":"resource/cpu","value":{"limit":"500m","request":"250m"}},{"name":"a.b/c","value":1}]`)
	r := docker(t, "create", ref)
	made(t, strings.TrimSpace(r.Out))
	match(t, "warning", r.Err, "WARNING: the image's isolator a.b/c is ignored: it is unknown")
}

// TestSocketActivatedACI connects to an app before it has done anything: brig listens for it.
func TestSocketActivatedACI(t *testing.T) {
	own(t)
	ref := appcImage(t, "activated", "echo $LISTEN_FDS $LISTEN_PID $$; exec sleep 1000", "0",
		`,"ports":[{"name":"p","protocol":"tcp","port":4242,"socketActivated":true}]`)
	id := container(t, ref)
	logged(t, id, "1 1 1")
	addr := inspect(t, id, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	conn, err := net.Dial("tcp", net.JoinHostPort(addr, "4242"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestHandlersOutliveBrigd kills brigd while a container runs whose end is to be handled, and has it end meanwhile: the next brigd runs the handler.
func TestHandlersOutliveBrigd(t *testing.T) {
	own(t)
	ref := appcImage(t, "outlives", "while ! test -e /data/go; do sleep 0.05; done; exit 4", "0", `,"eventHandlers":[{"name":"post-stop","exec":["/bin/sh","-c","echo handled"]}]`)
	dir := t.TempDir()
	id := container(t, "-v", dir+":/data", ref)
	bed.server.Kill()
	if err := os.WriteFile(dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := bed.server.Start(bed.ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit code", ok(t, "wait", id), "4")
	equal(t, "log", ok(t, "logs", id), "handled")
}

// TestHandlersEndOnDemand stops, kills and removes containers while their handlers run.
func TestHandlersEndOnDemand(t *testing.T) {
	own(t)
	pre := appcImage(t, "pre", "true", "0", `,"eventHandlers":[{"name":"pre-start","exec":["/bin/sh","-c","echo begun; trap '' TERM; while :; do sleep 1; done"]}]`)
	post := appcImage(t, "post", "true", "0", `,"eventHandlers":[{"name":"post-stop","exec":["/bin/sh","-c","echo begun; trap '' TERM; while :; do sleep 1; done"]}]`)
	for _, end := range [][]string{{"stop", "-t", "0"}, {"kill"}, {"rm", "-f"}} {
		id := made(t, ok(t, "create", pre))
		started := make(chan int)
		go func() { started <- docker(t, "start", id).Code }()
		logged(t, id, "begun")
		ok(t, append(end, id)...)
		equal(t, end[0]+": start", <-started, 1)
		id = container(t, post)
		logged(t, id, "begun")
		ok(t, append(end, id)...)
		if end[0] != "rm" {
			equal(t, end[0], ok(t, "wait", id), "0")
		}
	}
}

// TestHandlersAskForMetadata asks for the pod's UUID before, during and after a run: all of it is the pod's.
func TestHandlersAskForMetadata(t *testing.T) {
	own(t)
	handler := "exec -a wget /bin/sh -qO- $AC_METADATA_URL/acMetadata/v1/pod/uuid" // it is a busybox
	ref := appcImage(t, "asks", handler, "0", fmt.Sprintf(`,"eventHandlers":[{"name":"pre-start","exec":["/bin/sh","-c",%q]},{"name":"post-stop","exec":["/bin/sh","-c",%q]}]`, handler, handler))
	code, log := outcome(t, ref)
	equal(t, "exit code", code, 0)
	match(t, "log", log, `^[0-9a-f-]{36}`)
	equal(t, "all three", log, strings.Repeat(log[:min(36, len(log))], 3))
}

// podOut runs a pod of one app to its end and gives what the app said, and brig.
func podOut(t *testing.T, args ...string) (out string, good bool) {
	t.Helper()
	return brigRun(t, append([]string{"pod", "run", "--rm", "--no-prefix"}, args...)...)
}

// TestVolumesOfPods mounts volumes by appc's rules.
func TestVolumesOfPods(t *testing.T) {
	own(t)
	ref := appcImage(t, "volumes", "stat -c '%a %u %g %n' /m/*; echo $(cat /m/h/x) $(ls /full); echo new > /m/h/x; echo new > /m/e/x && cat /m/e/x", "0",
		`,"mountPoints":[{"name":"e","path":"/m/e"},{"name":"h","path":"/m/h"},{"name":"r","path":"/m/r","readOnly":true}]`)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/x", []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	out, good := podOut(t, "-v", "e,kind=empty,mode=1777,uid=5,gid=6", "-v", "h="+dir+",readOnly=true", "-v", "r=kind=empty", "-v", "f", ref, "-m", "f:/full", "-m", "f:/file")
	equal(t, "exit", good, true)
	for _, want := range []string{"1777 5 6 /m/e\n", "755 0 0 /m/r\n", "host\n", "can't create /m/h/x: Read-only file system", "\nnew",
		"app volumes: the volume at /full masks files of the image", "app volumes: the volume at /file takes the place of a file of the image"} {
		if !strings.Contains(out+"\n", want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for want, args := range map[string][]string{
		"the source of a host volume does not exist: /none/such":    {"-v", "h=/none/such", ref},
		"is reached by a symbolic link: " + dir + "/link":           {"-v", "h=" + dir + "/link", ref},
		"the mounts at /m/e and /m/e/x overlap":                     {"-v", "v", ref, "-m", "v:/m/e", "-m", "v:/m/e/x"},
		"mount point e (/m/e): no volume is named for it":           {"--strict", ref},
		"not all isolators can be enforced: app volumes's isolator": {"--strict", "-v", "e", "-v", "h", "-v", "r", ref, "--isolator", `resource/block-iops={"default":true,"limit":"5"}`},
	} {
		out, good := podOut(t, args...)
		if good || !strings.Contains(out, want) {
			t.Errorf("%v: %s", args, out)
		}
	}
	if left := ok(t, "volume", "ls", "-q", "--filter", "label=io.brig.pod.name"); left != "" {
		t.Errorf("volumes left: %s", left)
	}
}

// TestSettingsOfPods sets what is the pod's, and reads it in an app.
func TestSettingsOfPods(t *testing.T) {
	own(t)
	ref := appcImage(t, "settings", "cat /proc/sys/net/core/somaxconn; echo $A $AC_APP_NAME $container $PATH; pwd; touch /x; cat; true", "0", `,"ports":[{"name":"p","protocol":"tcp","port":81,"count":2}]`)
	out, good := podOut(t, "--isolator", `os/unix/sysctl={"net.core.somaxconn":"77"}`, ref, "--name", "other", "-e", "A=b c", "--readonly-rootfs", "-w", "/full")
	equal(t, "exit", good, true)
	for _, line := range []string{"77", "b c other brig /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/full", "touch: /x: Read-only file system"} {
		if !slices.Contains(strings.Split(out, "\n"), line) { // standard output and error come in no certain order
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	out, good = brigRun(t, "pod", "run", "--dry-run", "-p", "p:127.0.0.1:4000", ref)
	equal(t, "dry run", good, true)
	match(t, "manifest", out, `(?s)"name": ?"p",\s*"hostPort": ?4000,\s*"hostIP": ?"127.0.0.1"`)
	port := portPair(t)
	id, good := brigRun(t, "pod", "run", "-d", "-p", fmt.Sprintf("p:127.0.0.1:%d", port), ref, "--exec", "/bin/sh", "--", "-c", "sleep 1000")
	equal(t, id, good, true)
	t.Cleanup(func() { brigRun(t, "pod", "rm", "-f", id) })
	out, _ = brigRun(t, "pod", "inspect", id)
	match(t, "both ports of the range", out, fmt.Sprintf("(?s)%[1]d.*%[2]d|%[2]d.*%[1]d", port, port+1))
}

// portPair finds a port of the host that is free, and the next one too.
func portPair(t *testing.T) int {
	t.Helper()
	for {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		if err == nil {
			a.Close()
			b.Close()
			return port
		}
	}
}
