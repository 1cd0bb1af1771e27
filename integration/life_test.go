package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCreateStartStop(t *testing.T) {
	id := made(t, ok(t, "create", "-i", "--name", fresh("c"), image("busybox"), "sh", "-c", "read x; echo got $x; exit 3"))
	equal(t, "state", inspect(t, id, "{{.State.Status}}"), "created")
	for range 2 { // a container starts again after its end
		r := dockerIn(t, "word\n", "start", "-a", "-i", id)
		equal(t, "start -a -i", r.Out, "got word\n")
		equal(t, "its exit code", r.Code, 3)
		equal(t, "state", inspect(t, id, "{{.State.Status}} {{.State.ExitCode}}"), "exited 3")
	}
	fails(t, 1, "No such container: nosuch", "start", "nosuch")

	id = made(t, ok(t, "create", image("busybox"), "/no/such"))
	r := docker(t, "start", id)
	match(t, "start of what is not there", r.Err, "no such file or directory")
	equal(t, "its exit code", r.Code, 1)
	equal(t, "state", inspect(t, id, "{{.State.ExitCode}}"), "127")
}

func TestStopKillRestart(t *testing.T) {
	id := container(t, image("user"), "onint")
	logged(t, id, "ready")
	equal(t, "stop", ok(t, "stop", id), id)
	equal(t, "StopSignal of the image", inspect(t, id, "{{.State.Status}} {{.State.ExitCode}}"), "exited 7")
	equal(t, "stop of a stopped one", ok(t, "stop", id), id)
	ok(t, "start", id)
	eventually(t, "it is ready again", func() (bool, string) {
		r := docker(t, "logs", id)
		return strings.Count(r.Out, "ready") == 2, r.String()
	})
	ok(t, "kill", "-s", "INT", id)
	equal(t, "wait", ok(t, "wait", id), "7")

	id = container(t, image("busybox"), "sleep", "600")
	started := inspect(t, id, "{{.State.StartedAt}} {{.State.Pid}}")
	ok(t, "restart", "-t", "0", id)
	if now := inspect(t, id, "{{.State.StartedAt}} {{.State.Pid}}"); now == started {
		t.Errorf("restart changed neither time nor pid: %s", now)
	}
	id = container(t, image("busybox"), "sh", "-c", "trap '' TERM; echo ready; exec sleep 600")
	logged(t, id, "ready")
	ok(t, "stop", "-t", "1", id)
	equal(t, "stop -t 1", inspect(t, id, "{{.State.ExitCode}}"), "137")
	ok(t, "start", id)
	equal(t, "kill", ok(t, "kill", id), id)
	equal(t, "wait", ok(t, "wait", id), "137")
	fails(t, 1, "is not running", "kill", id)
	fails(t, 1, "(?i)invalid signal", "kill", "-s", "NOSUCH", id)
	fails(t, 1, "No such container", "stop", "nosuch")
}

func TestRemove(t *testing.T) {
	id := container(t, image("busybox"), "sleep", "600")
	fails(t, 1, "(?i)cannot remove.*container.*(running|stop the container)", "rm", id)
	equal(t, "rm -f", ok(t, "rm", "-f", id), id)
	fails(t, 1, "No such container", "rm", id)
	fails(t, 1, "(?i)no such object", "inspect", id)
	r := docker(t, "run", "--name", fresh("r"), "--rm", "-d", image("busybox"), "true")
	equal(t, "run -d --rm", r.Code, 0)
	eventually(t, "--rm", func() (bool, string) {
		out := ok(t, "ps", "-aq", "--no-trunc", "--filter", "id="+strings.TrimSpace(r.Out))
		return out == "", out
	})
}

func TestRename(t *testing.T) {
	a, b := fresh("a"), fresh("b")
	id := container(t, "--name", a, image("busybox"), "sleep", "600")
	ok(t, "rename", a, b)
	equal(t, "by the new name", inspect(t, b, "{{.Id}}{{.Name}}"), id+"/"+b)
	fails(t, 1, "(?i)no such", "inspect", a)
	other := container(t, "--name", a, image("busybox"), "sleep", "600")
	fails(t, 1, "already in use", "rename", other, b)
	fails(t, 1, "Invalid container name", "rename", b, "x/y")
}

func TestPs(t *testing.T) {
	label := fresh("ps")
	up := container(t, "--label", label, "--name", label+"up", image("busybox"), "sleep", "600")
	out := container(t, "--label", label+"=x", "--name", label+"out", image("user"), "sh", "-c", "exit 5")
	equal(t, "wait", ok(t, "wait", out), "5")
	new := made(t, ok(t, "create", "--label", label, "--name", label+"new", image("busybox")))
	list := func(args ...string) string {
		return strings.Join(strings.Fields(ok(t, append([]string{"ps", "--no-trunc", "-q", "--filter", "label=" + label}, args...)...)), " ")
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"running alone", nil, up},
		{"all, the newest first", []string{"-a"}, strings.Join([]string{new, out, up}, " ")},
		{"last", []string{"-n", "1"}, new},
		{"status", []string{"-a", "--filter", "status=exited"}, out},
		{"two statuses", []string{"-a", "--filter", "status=exited", "--filter", "status=created"}, new + " " + out},
		{"exited", []string{"-a", "--filter", "exited=5"}, out},
		{"exited otherwise", []string{"-a", "--filter", "exited=6"}, ""},
		{"name", []string{"-a", "--filter", "name=" + label + "u"}, up},
		{"name, anchored", []string{"-a", "--filter", "name=^/?" + label + "new$"}, new},
		{"id", []string{"-a", "--filter", "id=" + out[:20]}, out},
		{"label with value", []string{"-a", "--filter", "label=" + label + "=x"}, out},
		{"ancestor", []string{"-a", "--filter", "ancestor=" + image("user")}, out},
		{"before", []string{"-a", "--filter", "before=" + out}, up},
		{"since", []string{"-a", "--filter", "since=" + out}, new},
		{"network", []string{"-a", "--filter", "network=none"}, ""},
	} {
		equal(t, c.name, list(c.args...), c.want)
	}
	fails(t, 1, "(?i)invalid (filter|argument)", "ps", "--filter", "nosuch=1")
	row := ok(t, "ps", "--no-trunc", "--filter", "id="+up, "--format", "{{.ID}}|{{.Image}}|{{.Command}}|{{.Status}}|{{.Names}}|{{.State}}|{{.Labels}}")
	match(t, "row", row, "^"+up+`\|`+regexp.QuoteMeta(image("busybox"))+`\|"sleep 600"\|Up .*\|`+label+`up\|running\|`+label+"=$")
	match(t, "status of an exited one", ok(t, "ps", "-a", "--filter", "id="+out, "--format", "{{.Status}}"), `^Exited \(5\) .* ago$`)
	match(t, "table", ok(t, "ps", "--filter", "id="+up), `^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES\n`+up[:12])
	match(t, "size", ok(t, "ps", "-s", "--filter", "id="+up, "--format", "{{.Size}}"), `^\S+B \(virtual \S+B\)$`)
}

func TestInspectJSON(t *testing.T) {
	id := container(t, "-e", "A=b", "--memory", "64m", image("busybox"), "sleep", "600")
	var got []map[string]any
	if err := json.Unmarshal([]byte(ok(t, "inspect", id)), &got); err != nil || len(got) != 1 {
		t.Fatalf("inspect gave %d objects: %v", len(got), err)
	}
	for _, field := range []string{"Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "Name",
		"RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"} {
		if _, there := got[0][field]; !there {
			t.Errorf("inspect has no %s", field)
		}
	}
	equal(t, "limits", inspect(t, id, "{{.HostConfig.Memory}} {{.Path}} {{.Args}} {{.Config.Image}}"), "67108864 sleep [600] "+image("busybox"))
	fails(t, 1, "(?i)no such (object|container): nosuch", "inspect", "nosuch")
}

func TestLogs(t *testing.T) {
	id := container(t, image("busybox"), "sh", "-c", "echo one; echo two >&2; echo three; sleep 0.2; printf tail")
	equal(t, "wait", ok(t, "wait", id), "0")
	r := docker(t, "logs", id)
	equal(t, "stdout", r.Out, "one\nthree\ntail")
	equal(t, "stderr", r.Err, "two\n")
	equal(t, "tail 1", ok(t, "logs", "--tail", "1", id), "tail")
	equal(t, "tail 0", ok(t, "logs", "--tail", "0", id), "")
	match(t, "t", ok(t, "logs", "-t", "--tail", "1", id), `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z tail$`)
	stamps := strings.Fields(ok(t, "logs", "-t", id))
	equal(t, "since", ok(t, "logs", "--since", stamps[4], id), "tail")
	equal(t, "until", ok(t, "logs", "--until", stamps[0], id), "one")
	equal(t, "since the future", ok(t, "logs", "--since", "2100-01-01T00:00:00Z", id), "")
	equal(t, "since long ago", docker(t, "logs", "--since", "1h", id).Out, "one\nthree\ntail")
	fails(t, 1, "No such container", "logs", "nosuch")
	big := container(t, image("busybox"), "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo")
	ok(t, "wait", big)
	equal(t, "a long line", ok(t, "logs", big), strings.Repeat("x", 40000))
}

func TestLogsFollow(t *testing.T) {
	id := container(t, "-i", image("busybox"), "sh", "-c", "echo before; while ! test -e /go; do sleep 0.05; done; echo after; exit 4")
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	follow := bed.cli.Command(ctx, "logs", "-f", id)
	pipe, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 7)
	if _, err := pipe.Read(buf); err != nil || string(buf) != "before\n" {
		t.Errorf("first line %q, %v", buf, err)
	}
	ok(t, "exec", id, "touch", "/go")
	buf = make([]byte, 100)
	n, err := pipe.Read(buf)
	equal(t, "line that came later", string(buf[:n]), "after\n")
	if n, err = pipe.Read(buf); n != 0 || err == nil {
		t.Errorf("read %q, %v after the container's end; want the end of the stream", buf[:n], err)
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("logs -f: %v", err)
	}
}

func TestExec(t *testing.T) {
	id := container(t, "-e", "A=b", "-w", "/tmp", image("busybox"), "sleep", "600")
	r := dockerIn(t, "in", "exec", "-i", "-e", "X=y", "-w", "/etc", "-u", "app", id, "sh", "-c", "cat; echo \" $A $X $PWD $(id -un)\"; echo e >&2; exit 9")
	equal(t, "stdout", r.Out, "in b y /etc app\n")
	equal(t, "stderr", r.Err, "e\n")
	equal(t, "exit code", r.Code, 9)
	equal(t, "folder of the container", ok(t, "exec", id, "pwd"), "/tmp")
	equal(t, "large input", ok(t, "exec", id, "sh", "-c", "head -c 300000 /dev/zero | wc -c"), "300000")
	equal(t, "detached", ok(t, "exec", "-d", id, "touch", "/tmp/made"), "")
	eventually(t, "what a detached exec did", func() (bool, string) {
		r := docker(t, "exec", id, "ls", "/tmp")
		return r.Out == "made\n", r.String()
	})
	if hostDiffers["run default capabilities"] == "" {
		equal(t, "capabilities", ok(t, "exec", id, "sh", "-c", "grep CapEff /proc/self/status | cut -f2"), "00000000a80425fb")
	}
	if reason := hostDiffers["exec privileged"]; reason != "" {
		r := docker(t, "exec", "--privileged", id, "true")
		equal(t, "exit code of a privileged one", r.Code, 126)
		match(t, "privileged", r.Out+r.Err, "can't be given to one exec alone")
	} else if reason, differs := dockerdDiffers["exec privileged"]; !differs || bed.server.Owned {
		equal(t, "privileged", ok(t, "exec", "--privileged", id, "true"), "")
	} else {
		t.Log("left out: exec --privileged: " + reason)
	}
	for _, c := range []struct {
		name, words string
		code        int
		args        []string
	}{
		{"not found", "executable file not found", 127, []string{id, "nosuch"}},
		{"not executable", "permission denied", 126, []string{id, "/noexec"}},
		{"unknown user", "unable to find user nobody9", 126, []string{"-u", "nobody9", id, "true"}},
		{"no such container", "No such container: nosuch", 1, []string{"nosuch", "true"}},
	} {
		r := docker(t, append([]string{"exec"}, c.args...)...)
		match(t, c.name, r.Out+r.Err, c.words)
		// dockerd 20.10 says 126 for each failed exec.
		if r.Code != c.code && !(c.name == "unknown user" && r.Code == 1) && (bed.server.Owned || r.Code != 126) {
			t.Errorf("%s: exit code %d, want %d", c.name, r.Code, c.code)
		}
	}
	ok(t, "kill", id)
	ok(t, "wait", id)
	fails(t, 1, "is not running", "exec", id, "true")
}

func TestTop(t *testing.T) {
	id := container(t, image("busybox"), "sh", "-c", "sleep 600; true")
	eventually(t, "top", func() (bool, string) {
		out := ok(t, "top", id)
		done, _ := regexp.MatchString(`(?s)^UID +PID +PPID .*CMD\s*\n.*sh -c sleep 600; true( \(busybox\))?\s*\n.*sleep 600`, out)
		return done, out
	})
	// FreeBSD's ps names the executed file: it is busybox's.
	match(t, "top -o", ok(t, "top", id, "-o", "pid,comm"), `^PID +COMMAND\s*\n\d+ +(sh|busybox)`)
	stopped := made(t, ok(t, "create", image("busybox"), "true"))
	fails(t, 1, "is not running", "top", stopped)
}

func TestCp(t *testing.T) {
	id := container(t, image("layers"), "sleep", "600")
	dir := t.TempDir()
	ok(t, "cp", id+":/data/b", dir+"/b")
	b, err := os.ReadFile(dir + "/b")
	equal(t, "file from a container", string(b), "b2")
	equal(t, "error", err, nil)
	ok(t, "cp", id+":/opaque", dir)
	if got, _ := filepath.Glob(dir + "/opaque/*"); len(got) != 1 || filepath.Base(got[0]) != "y" {
		t.Errorf("folder from a container: %v", got)
	}
	ok(t, "cp", tempFile(t, "up", "sent"), id+":/tmp/renamed")
	equal(t, "file to a container", ok(t, "exec", id, "cat", "/tmp/renamed"), "sent")
	ok(t, "cp", dir+"/opaque", id+":/tmp")
	equal(t, "folder to a container", ok(t, "exec", id, "cat", "/tmp/opaque/y"), "y")
	ok(t, "cp", dir+"/opaque/.", id+":/home/app")
	equal(t, "folder's content", ok(t, "exec", id, "cat", "/home/app/y"), "y")
	match(t, "to stdout", ok(t, "cp", id+":/etc/group", "-"), "(?s)^group\x00.*root:x:0:")
	ok(t, "kill", id)
	ok(t, "wait", id)
	ok(t, "cp", id+":/tmp/renamed", dir+"/again")
	fails(t, 1, "(?i)could not find the file|no such file", "cp", id+":/no/such", dir)
	fails(t, 1, "(?i)no such (file or )?directory|does not exist", "cp", dir+"/b", id+":/no/such/")
	fails(t, 1, "No such container", "cp", "nosuch:/x", dir)
	fails(t, 1, "(?i)no such file", "cp", dir+"/nosuch", id+":/")
}

func TestEvents(t *testing.T) {
	since := time.Now().Add(-time.Second).Format(time.RFC3339Nano)
	name := fresh("ev")
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	live := bed.cli.Command(ctx, "events", "--filter", "container="+name, "--filter", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
	pipe, err := live.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { live.Process.Signal(os.Interrupt); live.Wait() }()
	// The stream has no greeting; a container each until one is seen.
	lines := make(chan string, 1)
	go func() { line, _ := bufio.NewReader(pipe).ReadString('\n'); lines <- line }()
	eventually(t, "live event", func() (bool, string) {
		docker(t, "run", "--rm", "--name", name, image("busybox"), "sh", "-c", "exit 6")
		select {
		case line := <-lines:
			equal(t, "live event", line, "die 6\n")
			return true, ""
		default:
			return false, "nothing"
		}
	})
	other := fresh("ev")
	ok(t, "run", "--rm", "--name", other, "--label", "k=v", image("busybox"), "true")
	until := time.Now().Add(time.Second).Format(time.RFC3339Nano)
	past := func(args ...string) string {
		return strings.Join(strings.Fields(ok(t, append([]string{"events", "--since", since, "--until", until, "--format", "{{.Action}}"}, args...)...)), " ")
	}
	equal(t, "life of a container", past("--filter", "container="+other, "--filter", "type=container"), "create attach start die destroy")
	equal(t, "two events", past("--filter", "container="+other, "--filter", "event=start", "--filter", "event=die"), "start die")
	equal(t, "image and label", past("--filter", "image="+image("busybox"), "--filter", "label=k=v", "--filter", "event=start"), "start")
	match(t, "words", ok(t, "events", "--since", since, "--until", until, "--filter", "container="+other, "--filter", "event=start"),
		`^\S+ container start [0-9a-f]{64} \(image=.*, k=v, name=`+other+`\)$`)
}

// Attach sends stdin, shows what is written from now on, and ends as the container does.
func TestAttach(t *testing.T) {
	id := container(t, "-i", image("busybox"), "sh", "-c", "read x; echo got $x; exit 8")
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	cmd := bed.cli.Command(ctx, "attach", id)
	// Stdin stays open: its end would detach from a container that was started with -d.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	cmd.Stdin = r
	if _, err := w.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	equal(t, "attach", string(out), "got line\n")
	if exit, is := err.(*exec.ExitError); !is || exit.ExitCode() != 8 {
		t.Errorf("attach: %v, want exit code 8", err)
	}
	fails(t, 1, "cannot attach to a stopped container", "attach", id)
}
