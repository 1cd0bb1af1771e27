package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"github.com/brigd/brig/integration/internal/testbed"
)

// pod runs the brig command on the suite's server, with standard output and error apart.
func pod(t *testing.T, args ...string) testbed.Result {
	t.Helper()
	return podOn(t, bed.server, args...)
}

func podOn(t *testing.T, s *testbed.Server, args ...string) testbed.Result {
	t.Helper()
	own(t)
	cmd := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), append([]string{"-H", s.Host}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	_ = cmd.Run() // the exit code says how it ended
	if cmd.ProcessState == nil {
		t.Fatalf("brig %v could not be started", args)
	}
	return testbed.Result{Args: args, Out: out.String(), Err: errOut.String(), Code: cmd.ProcessState.ExitCode()}
}

// podOK wants exit code 0 and returns what was printed.
func podOK(t *testing.T, args ...string) string {
	t.Helper()
	r := pod(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Out)
}

// madePod names a new pod, which is removed after the test.
func madePod(t *testing.T) string {
	name := fresh("pod")
	t.Cleanup(func() { pod(t, "pod", "rm", "-f", name) })
	return name
}

// unprefixed takes times and names from lines, which must all have them; each app's lines stay in their order.
func unprefixed(t *testing.T, said string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(?:Z|[+-]\d\d:\d\d) (\S+) +\| (.*)$`)
	for l := range strings.Lines(said) {
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Errorf("a line without time and name: %q", l)
			continue
		}
		out[m[1]] = append(out[m[1]], m[2])
	}
	return out
}

// Two apps share localhost, host name, System V and POSIX IPC and a volume, each with a file system of its own.
func TestPodShares(t *testing.T) {
	own(t)
	name := madePod(t)
	server := `hostname; echo by-volume > /data/note; echo by-shm > /dev/shm/note; touch /mine
		httpd -p 80 -h /etc
		SYSTEMV
		while ! test -e /data/end; do sleep 0.05; done; exit 6`
	client := `hostname; while ! test -e /d/note; do sleep 0.05; done; cat /d/note /dev/shm/note; test -e /mine || echo own-files
		SYSTEMV
		while ! wget -q -O - http://127.0.0.1/passwd | grep -c ^root:; do sleep 0.05; done; cat /etc/hosts | grep -c shared; echo to-stderr >&2; touch /d/end; exit 7`
	said := "shared by-volume by-shm own-files queue by-sysv 1 1"
	ofServer := "touch /dev/mqueue/queue; syslogd -C16 -O /dev/null -l 8 & while ! test -e /data/go; do sleep 0.05; done; logger by-sysv"
	ofClient := `while ! logread >/dev/null 2>&1; do sleep 0.05; done; ls /dev/mqueue; touch /d/go; while ! logread | grep -o by-sysv; do sleep 0.05; done`
	if reason := hostDiffers["pod queues"]; reason != "" {
		t.Log("left out: " + reason)
		said, ofServer, ofClient = strings.Replace(said, "queue by-sysv ", "", 1), "", ""
	}
	server, client = strings.Replace(server, "SYSTEMV", ofServer, 1), strings.Replace(client, "SYSTEMV", ofClient, 1)
	r := pod(t, "pod", "run", "--name", name, "--rm", "--hostname", "shared", "-v", "data,kind=empty,mode=1777", image("busybox"), "--name", "server", "-m", "data:/data", "--exec", "sh", "--",
		"-c", server, "---", image("busybox"), "--name", "client", "-m", "data:/d", "--exec", "sh", "--", "-c", client)
	if r.Code != 6 {
		t.Errorf("the code is the first app's that isn't 0: %s", r)
	}
	got := unprefixed(t, r.Out)
	equal(t, "the server said", strings.Join(got["server"], " "), "shared")
	equal(t, "the client said", strings.Join(got["client"], " "), said)
	equal(t, "on standard error", strings.Join(unprefixed(t, r.Err)["client"], " "), "to-stderr")
	if out := podOK(t, "pod", "ls"); strings.Contains(out, name) {
		t.Errorf("a pod with --rm is left: %s", out)
	}
	equal(t, "volumes left", ok(t, "volume", "ls", "-q", "-f", "label=io.brig.pod.name="+name), "")
}

// docker sees each app as a container, and does to one app what makes sense.
func TestPodSeenByDocker(t *testing.T) {
	own(t)
	name := madePod(t)
	port := freePort(t)
	uuid := podOK(t, "pod", "run", "-d", "--name", name, "-l", "k=v", image("busybox"), "--name", "web", "-p", "http=80:127.0.0.1:"+port, "-e", "A=b", "--exec", "sh", "--",
		"-c", "echo up; exec httpd -f -p 80 -h /etc", "---", image("busybox"), "--name", "side", "--exec", "sh", "--", "-c", "echo beside; trap 'exit 4' TERM; while :; do sleep 0.1; done")
	match(t, "uuid", uuid, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	list := ok(t, "ps", "--filter", "label=io.brig.pod.uuid="+uuid, "--format", `{{.Names}} {{.Label "io.brig.app"}} {{.Label "io.brig.pod.name"}} {{.Label "k"}} {{.Ports}}`)
	equal(t, "docker ps", list, fmt.Sprintf("%s-side side %s v \n%s-web web %s v 127.0.0.1:%s->80/tcp", name, name, name, name, port))
	eventually(t, "the published port", func() (bool, string) { code := get(t, "127.0.0.1:"+port); return code == 404, fmt.Sprint(code) })
	logged(t, name+"-side", "beside")
	equal(t, "env and host names", ok(t, "exec", name+"-web", "sh", "-c", "echo $A $AC_APP_NAME $container; hostname"), "b web brig\n"+ok(t, "exec", name+"-side", "hostname"))
	equal(t, "one address", inspect(t, name+"-web", "{{.NetworkSettings.Networks.bridge.IPAddress}}"), inspect(t, name+"-side", "{{.NetworkSettings.Networks.bridge.IPAddress}}"))
	equal(t, "the host config says the port", inspect(t, name+"-web", `{{(index (index .HostConfig.PortBindings "80/tcp") 0).HostPort}}`), port)
	// One app can be stopped and started again beside the other.
	ok(t, "stop", name+"-side")
	equal(t, "stopped", inspect(t, name+"-side", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4")
	equal(t, "its neighbour goes on", get(t, "127.0.0.1:"+port), 404)
	ok(t, "start", name+"-side")
	equal(t, "side by side again", ok(t, "exec", name+"-side", "wget", "-q", "-O", "-", "http://127.0.0.1/hostname"), ok(t, "exec", name+"-web", "hostname"))
	ok(t, "network", "create", name)
	t.Cleanup(func() { docker(t, "network", "rm", name) })
	for _, args := range [][]string{{"rm", "-f", name + "-side"}, {"rename", name + "-side", "x" + name}, {"network", "connect", name, name + "-side"}} {
		fails(t, 1, "is app side of pod "+name, args...)
	}
	fails(t, 1, "it can't be removed by itself; brig pod rm "+name+" removes all of it", "rm", "-f", name+"-side")
	fails(t, 1, "already in use", "create", "--name", name, image("busybox"))
	ok(t, "container", "prune", "-f", "--filter", "label=io.brig.pod.uuid="+uuid)
	equal(t, "logs", strings.Join(unprefixed(t, podOK(t, "pod", "logs", name))["web"], " "), "up")
	podOK(t, "pod", "stop", name)
	equal(t, "prune leaves apps alone", ok(t, "container", "prune", "-f", "--filter", "label=io.brig.pod.uuid="+uuid), "Total reclaimed space: 0B")
	equal(t, "stopped", ok(t, "ps", "-q", "--filter", "label=io.brig.pod.uuid="+uuid), "")
	podOK(t, "pod", "start", uuid[:13])
	match(t, "pod ps", podOK(t, "pod", "ps", name), `(?s)`+name+` +web .* running .*127.0.0.1:`+port+`->80/tcp.*`+name+` +side .* running`)
	podOK(t, "pod", "kill", name)
	podOK(t, "pod", "rm", name)
	equal(t, "removed", ok(t, "ps", "-aq", "--filter", "label=io.brig.pod.uuid="+uuid), "")
	// A container that docker made is a pod of one app.
	alone := container(t, "--name", fresh("Alone_"), image("busybox"), "sleep", "1000")
	var seen []struct {
		UUID, Name, State string
		Apps              []struct{ Name, Container string }
	}
	if err := json.Unmarshal([]byte(podOK(t, "pod", "inspect", alone)), &seen); err != nil || len(seen) != 1 || seen[0].State != "running" || len(seen[0].Apps) != 1 || seen[0].Apps[0].Container != alone {
		t.Errorf("%+v %v", seen, err)
	}
	podOK(t, "pod", "rm", "-f", seen[0].UUID)
}

// Each app of a pod finds the metadata of the whole pod, and a signature by one is verified by the other.
func TestPodMetadata(t *testing.T) {
	own(t)
	name := madePod(t)
	ask := `get() { wget -q -O - $AC_METADATA_URL/acMetadata/v1/$1; echo; }; get pod/uuid; get apps/$AC_APP_NAME/image/id; get apps/other/image/id; get pod/annotations; get pod/manifest | grep -o '"name":"[ab]"'`
	sign := `wget -q -O /data/sig --post-data content=hello $AC_METADATA_URL/acMetadata/v1/pod/hmac/sign; test -s /data/sig && touch /data/signed`
	verify := `while ! test -e /data/signed; do sleep 0.05; done; sig=$(sed 's/+/%2B/g;s/=/%3D/g' /data/sig)
		wget -q -O /dev/null --post-data "content=hello&uuid=$(wget -q -O - $AC_METADATA_URL/acMetadata/v1/pod/uuid)&signature=$sig" $AC_METADATA_URL/acMetadata/v1/pod/hmac/verify && echo verified`
	uuid := podOK(t, "pod", "prepare", "--name", name, "-v", "data", "-a", "k=v", image("busybox"), "--name", "a", "-m", "data:/data", "--exec", "sh", "--", "-c", ask+"; "+sign,
		"---", image("busybox"), "--name", "b", "-m", "data:/data", "--exec", "sh", "--", "-c", verify)
	match(t, "ls", podOK(t, "pod", "ls"), uuid+" +"+name+" +prepared +a,b")
	podOK(t, "pod", "start", name)
	for _, app := range []string{"-a", "-b"} {
		equal(t, "app "+app+" ends with", ok(t, "wait", name+app), "0")
	}
	got := unprefixed(t, podOK(t, "pod", "logs", name))
	a := strings.Join(got["a"], " ")
	match(t, "app a", a, `^`+uuid+` sha512-[0-9a-f]{128}  \[\{"name":"k","value":"v"\}\] "name":"a" "name":"b"$`)
	equal(t, "app b", strings.Join(got["b"], " "), "verified")
}

// A pod manifest names its images by appc's names; --dry-run prints it reified, and makes nothing.
func TestPodManifest(t *testing.T) {
	own(t)
	name, dir := madePod(t), t.TempDir()
	var images []struct {
		Tags []string
		ACI  struct{ Name, ID string }
	}
	_, _, body, err := bed.server.Get(bed.ctx, "/brig/v1/images")
	if err != nil || json.Unmarshal([]byte(body), &images) != nil {
		t.Fatal(err, body)
	}
	aci := ""
	for _, i := range images {
		for _, tag := range i.Tags {
			if strings.HasPrefix(tag, image("busybox")) {
				aci = i.ACI.Name
			}
		}
	}
	os.Mkdir(filepath.Join(dir, "host"), 0o755)
	os.WriteFile(filepath.Join(dir, "host", "file"), []byte("from the host\n"), 0o644)
	app := func(name, script string) string {
		return fmt.Sprintf(`{"name":%q,"image":{"name":%q},"mounts":[{"volume":"host","path":"/host"}],"app":{"exec":["/bin/sh","-c",%q],"user":"0","group":"0"}}`, name, aci, script)
	}
	manifest := tempFile(t, "pod.json", `{"acVersion":"0.8.11","acKind":"PodManifest","apps":[`+app("one", "cat /host/file; touch /host/no 2>/dev/null || echo read-only")+","+app("two", "exit 9")+
		`],"volumes":[{"name":"host","kind":"host","source":"`+filepath.Join(dir, "host")+`","readOnly":true}],"annotations":[{"name":"a","value":"b"}]}`)
	var reified struct {
		ACKind      string
		Apps        []struct{ Image struct{ ID, Name string } }
		Annotations []struct{ Name, Value string }
	}
	if err := json.Unmarshal([]byte(podOK(t, "pod", "run", "--dry-run", "--name", name, "-f", manifest, image("busybox"), "--name", "three")), &reified); err != nil || len(reified.Apps) != 3 ||
		!strings.HasPrefix(reified.Apps[2].Image.ID, "sha512-") || reified.Apps[0].Image.ID != reified.Apps[2].Image.ID || reified.Apps[1].Image.Name != aci || len(reified.Annotations) != 1 {
		t.Errorf("reified: %+v %v", reified, err)
	}
	if r := pod(t, "pod", "inspect", name); r.Code == 0 {
		t.Error("a dry run has made a pod")
	}
	r := pod(t, "run", "--name", name, "-f", manifest)
	got := unprefixed(t, r.Out)
	if r.Code != 9 || strings.Join(got["one"], " ") != "from the host read-only" {
		t.Error(r)
	}
	match(t, "ls", podOK(t, "pod", "ls"), name+` +exited +one,two`)
	match(t, "the manifest is kept", podOK(t, "pod", "inspect", "--manifest", name), reified.Apps[0].Image.ID)
}

// What fails says why, and leaves nothing.
func TestPodErrors(t *testing.T) {
	own(t)
	before := podOK(t, "pod", "ls", "-q") + ok(t, "ps", "-aq") + ok(t, "volume", "ls", "-q")
	taken := container(t, "--name", fresh("taken"), image("busybox"), "true")
	bb := image("busybox")
	broken := tempFile(t, "broken.json", `{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{"name":"a"}]}`)
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{125, "no image: give one", nil},
		{125, "unexpected \"ls\": arguments of an app come after --", []string{bb, "ls"}},
		{125, "an image is missing behind ---", []string{bb, "---"}},
		{125, "unknown flag: --nosuch", []string{bb, "--nosuch"}},
		{1, "unknown flag: --nosuch", []string{"--nosuch", bb}},
		{125, "No such image: nosuch", []string{"--pull", "never", "nosuch"}},
		{125, "pull it: ", []string{image("nosuch")}},
		{125, "two apps of the pod are called", []string{bb, "---", bb}},
		{125, "the app \"a\" has no image", []string{"-f", broken}},
		{125, "no such file", []string{"-f", "/nonexistent"}},
		{125, "invalid size of /dev/shm", []string{"--shm-size", "much", bb}},
		{125, "can't be in the network of a container", []string{"--net", "container:x", bb}},
		{125, "invalid restart policy", []string{"--restart", "sometimes", bb}},
		{125, "can't have a restart policy", []string{"--rm", "--restart", "always", bb}},
		{125, "a terminal, or an open standard input, is for a pod of one app", []string{"-t", bb, "--name", "a", "---", bb, "--name", "b"}},
		{125, "-d and -i or -t exclude each other", []string{"-d", "-i", bb}},
		{125, "already in use by container", []string{"--name", inspect(t, taken, "{{slice .Name 1}}"), bb, "--exec", "true"}},
		{125, "the pod has no volume data", []string{bb, "-m", "data:/d"}},
		{125, "bind source path does not exist|does not exist|no such file", []string{"-v", "h=/nonexistent/dir", bb, "-m", "h:/d", "--exec", "true"}},
		{125, "network nosuch not found", []string{"--net", "nosuch", bb, "--exec", "true"}},
		{127, "app bad: .*executable file not found", []string{bb, "--name", "good", "--exec", "sleep", "--", "1000", "---", bb, "--name", "bad", "--exec", "nosuch"}},
		{127, "no such file or directory", []string{bb, "--exec", "/nosuch"}},
		{126, "permission denied", []string{bb, "--exec", "/etc/passwd"}},
	} {
		r := pod(t, append([]string{"pod", "run"}, c.args...)...)
		if r.Code != c.code || !regexp.MustCompile(c.text).MatchString(r.Err) {
			t.Errorf("%s\nwant exit code %d and %q", r, c.code, c.text)
		}
	}
	for _, args := range [][]string{{"start"}, {"stop"}, {"kill"}, {"rm"}, {"inspect"}, {"logs"}, {"ps"}, {"console"}} {
		if r := pod(t, append(append([]string{"pod"}, args...), "nosuch")...); r.Code != 1 || !strings.Contains(r.Err, "No such pod: nosuch") && !strings.Contains(r.Err, "not a TTY") {
			t.Errorf("%v", r)
		}
	}
	ok(t, "rm", taken)
	equal(t, "pods, containers and volumes are as before", podOK(t, "pod", "ls", "-q")+ok(t, "ps", "-aq")+ok(t, "volume", "ls", "-q"), before)
}

// ^C stops a pod in the foreground, and all its apps have their say before they end.
func TestPodInterrupted(t *testing.T) {
	own(t)
	name := madePod(t)
	script := "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
	cmd := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), "-H", bed.server.Host, "pod", "run", "--rm", "--name", name,
		image("busybox"), "--name", "a", "--exec", "sh", "--", "-c", script, "---", image("busybox"), "--name", "b", "--exec", "sh", "--", "-c", script)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both apps are ready", func() (bool, string) {
		logs := pod(t, "pod", "logs", "--no-prefix", name).Out
		return strings.Count(logs, "ready") == 2, logs
	})
	cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	equal(t, "exit code", cmd.ProcessState.ExitCode(), 3)
	for app, said := range unprefixed(t, out.String()) {
		equal(t, "app "+app, strings.Join(said, " "), "ready stopping")
	}
	if r := pod(t, "pod", "inspect", name); r.Code == 0 {
		t.Errorf("it is left: %s", r)
	}
}

// Terminals, standard input, and further commands.
func TestPodTerminal(t *testing.T) {
	own(t)
	name := madePod(t)
	onTerminal := func(typed string, args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), append([]string{"-H", bed.server.Host}, args...)...)
		tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
		if err != nil {
			t.Fatal(err)
		}
		defer tty.Close()
		fmt.Fprint(tty, typed)
		var said bytes.Buffer
		_, _ = said.ReadFrom(tty) // until the last process has closed the other side
		_ = cmd.Wait()
		return said.String(), cmd.ProcessState.ExitCode()
	}
	said, code := onTerminal("stty size; echo a$((1+1))b; exit 5\n", "run", "-it", "--rm", image("busybox"), "--exec", "sh")
	if code != 5 || !strings.Contains(said, "33 77") || !strings.Contains(said, "a2b") {
		t.Errorf("run -it: %d %q", code, said)
	}
	podOK(t, "pod", "run", "-d", "--name", name, image("busybox"), "--name", "a", "--exec", "sleep", "--", "1000", "---", image("busybox"), "--name", "b", "--exec", "sleep", "--", "1000")
	said, code = onTerminal("stty size; echo a$((1+1))b $AC_APP_NAME; exit 6\n", "pod", "console", "--app", "b", name)
	if code != 6 || !strings.Contains(said, "33 77") || !strings.Contains(said, "a2b b") {
		t.Errorf("console: %d %q", code, said)
	}
	cmd := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), "-H", bed.server.Host, "pod", "exec", "-i", name+"-b", "sh", "-c", "wc -c; echo $AC_APP_NAME; exit 8")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 100000))
	b, _ := cmd.Output()
	equal(t, "exec -i", string(b), "100000\nb\n")
	equal(t, "its exit code", cmd.ProcessState.ExitCode(), 8)
	equal(t, "exec -u -w -e", podOK(t, "pod", "exec", "--app", "a", "-u", "1:2", "-w", "/etc", "-e", "X=y", name, "sh", "-c", "id -u; id -g; pwd; echo $X"), "1\n2\n/etc\ny")
	podOK(t, "pod", "exec", "-d", "--app", "a", name, "touch", "/tmp/there")
	eventually(t, "the detached command", func() (bool, string) {
		r := pod(t, "pod", "exec", "--app", "a", name, "test", "-e", "/tmp/there")
		return r.Code == 0, r.String()
	})
	if r := pod(t, "pod", "exec", name, "true"); r.Code != 1 || !strings.Contains(r.Err, "has several apps: say with --app which is meant, a, b") {
		t.Error(r)
	}
	if r := pod(t, "pod", "exec", "--app", "c", name, "true"); r.Code != 1 || !strings.Contains(r.Err, "has no app c: its apps are a, b") {
		t.Error(r)
	}
}

// A pod without a network of its own has a localhost all the same, and one in the host's has the host's.
func TestPodNetworks(t *testing.T) {
	own(t)
	serve, ask := "exec httpd -f -p 127.0.0.1:8080 -h /etc", "while ! wget -q -O - http://127.0.0.1:8080/passwd | grep -c ^root:; do sleep 0.05; done; ifconfig -a | sed -n 's/^\\([a-z0-9][a-z0-9]*\\) .*/\\1/p' | grep -v ^pflog" // which FreeBSD makes in each network stack
	for _, net := range []string{"none", "host"} {
		name := madePod(t)
		if net == "host" {
			serve, ask = strings.ReplaceAll(serve, "8080", freePort(t)), "hostname"
		}
		podOK(t, "pod", "run", "-d", "--name", name, "--net", net, image("busybox"), "--name", "a", "--exec", "sh", "--", "-c", serve,
			"---", image("busybox"), "--name", "b", "--exec", "sh", "--", "-c", ask)
		ok(t, "wait", name+"-b")
		got := strings.Join(unprefixed(t, podOK(t, "pod", "logs", name, "b"))["b"], " ")
		want := "1 lo"
		if net == "host" {
			want, _ = os.Hostname()
		}
		equal(t, "with --net "+net, got, want)
		podOK(t, "pod", "rm", "-f", name)
	}
}

// brigd killed while a pod runs leaves it running, and the next one has it as it was.
func TestPodOutlivesBrigd(t *testing.T) {
	s, cli := daemon(t)
	run := func(args ...string) string {
		t.Helper()
		r := podOn(t, s, args...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return strings.TrimSpace(r.Out)
	}
	port := freePort(t)
	serve := func(at string) string {
		return "httpd -p " + at + " -h /etc; i=0; while ! test -e /data/end-$AC_APP_NAME; do echo tick $i; i=$((i+1)); sleep 0.05; done; exit 5"
	}
	run("pod", "run", "-d", "--name", "duo", "-v", "data", image("busybox"), "--name", "a", "-p", "w=80:127.0.0.1:"+port, "-m", "data:/data", "--exec", "sh", "--", "-c", serve("80"),
		"---", image("busybox"), "--name", "b", "-m", "data:/data", "--exec", "sh", "--", "-c", serve("81"))
	run("pod", "run", "-d", "--rm", "--name", "brief", image("busybox"), "--name", "a", "--exec", "sh", "--", "-c", "sleep 1", "---", image("busybox"), "--name", "b", "--exec", "sleep", "--", "1")
	eventually(t, "the published port", func() (bool, string) { code := get(t, "127.0.0.1:"+port); return code == 404, fmt.Sprint(code) })
	before := done(t, cli, "inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.Networks.bridge.IPAddress}}", "duo-a", "duo-b")
	run("pod", "exec", "--app", "a", "duo", "sh", "-c", "(sleep 0.2; touch /data/end-a) &") // which ends the app, and would end the command
	done(t, cli, "wait", "duo-a")
	s.Kill()
	equal(t, "the port without brigd", get(t, "127.0.0.1:"+port), 0)
	b := strings.Fields(strings.Split(before, "\n")[1])
	start(t, s)
	equal(t, "adopted", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}} {{.NetworkSettings.Networks.bridge.IPAddress}}", "duo-b"), "running "+strings.Join(b, " "))
	// The app that had ended comes back into the same pod.
	run("pod", "exec", "--app", "b", "duo", "rm", "/data/end-a")
	done(t, cli, "start", "duo-a")
	eventually(t, "the published port again", func() (bool, string) { code := get(t, "127.0.0.1:"+port); return code == 404, fmt.Sprint(code) })
	equal(t, "by localhost", done(t, cli, "exec", "duo-a", "wget", "-q", "-O", "-", "http://127.0.0.1:81/hostname"), done(t, cli, "exec", "duo-b", "hostname"))
	eventually(t, "the pod that removes itself", func() (bool, string) {
		out := run("pod", "ls")
		return !strings.Contains(out, "brief"), out
	})
	s.Kill() // with both up
	start(t, s)
	match(t, "ps", run("pod", "ps", "duo"), `(?s)duo +a .* running .*duo +b .* running`)
	run("pod", "stop", "-t", "0", "duo")
	healthy(t, s.Host)
	run("pod", "rm", "duo")
}

// freePort is a TCP port of 127.0.0.1 that nobody has.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
