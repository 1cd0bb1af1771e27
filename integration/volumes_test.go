package integration

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// vol is a name for a volume that the test's end removes.
func vol(t *testing.T) string {
	t.Helper()
	v := fresh("tv")
	t.Cleanup(func() { docker(t, "volume", "rm", "-f", v) })
	return v
}

func TestVolumeSubpath(t *testing.T) {
	if reason, differs := dockerdDiffers["volume subpath"]; differs && !bed.server.Owned {
		t.Skip(reason)
	}
	v := vol(t)
	ok(t, "run", "--rm", "-v", v+":/v", image("busybox"), "sh", "-c", "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s a/b /v/in; ln -s /etc /v/abs; ln -s ../../.. /v/out; echo x >/v/file")
	with := func(sub string) []string {
		return []string{"run", "--rm", "--mount", "type=volume,src=" + v + ",dst=/m,volume-subpath=" + sub, image("busybox"), "sh", "-c", "ls /m; echo own >/m/own"}
	}
	equal(t, "a directory", ok(t, with("a/b")...), "f")
	equal(t, "through a link", ok(t, with("in")...), "f\nown")
	for _, sub := range []string{"abs", "out", "nosuch", "file"} {
		if r := docker(t, with(sub)...); r.Code < 125 || r.Code > 127 {
			t.Errorf("%s: %s", sub, r)
		}
	}
	fails(t, 125, "subpath must be a relative path within the volume", with("../x")...)
	equal(t, "where it was written", ok(t, "run", "--rm", "-v", v+":/v", image("busybox"), "cat", "/v/a/b/own"), "own")
	place := ok(t, "volume", "inspect", "--format", "{{.Mountpoint}}", v)
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, filepath.Join(filepath.Dir(filepath.Dir(place)), "vm")+"/"), false
	})
	if err != nil || len(list) > 0 {
		t.Errorf("still mounted: %v, %v", list, err)
	}
}

// inUser runs a script in a container of the image that has things at /vol and /home, with flags; it wants exit code 0.
func inUser(t *testing.T, script string, flags ...string) string {
	t.Helper()
	return ok(t, append(append(append([]string{"run", "--rm", "-u", "0"}, flags...), image("user")), sh(script)...)...)
}

func TestVolumeCopyUp(t *testing.T) {
	a, b, home, bare, sub := vol(t), vol(t), vol(t), vol(t), vol(t)
	const seed = "stat -c '%a %u:%g' /vol /vol/seed"
	equal(t, "owners and modes", inUser(t, seed, "-v", a+":/vol"), "755 1000:1000\n644 1000:1000")
	equal(t, "of --mount", inUser(t, seed, "--mount", "type=volume,src="+b+",dst=/vol"), "755 1000:1000\n644 1000:1000")
	want := inUser(t, "cd /home; find . | sort | xargs stat -c '%n %a %u:%g'")
	equal(t, "a tree", inUser(t, "cd /home; find . | sort | xargs stat -c '%n %a %u:%g'", "-v", home+":/home"), want)
	equal(t, "nocopy", inUser(t, "ls /vol; stat -c %u:%g /vol", "-v", bare+":/vol:nocopy"), "0:0")
	equal(t, "and later it is filled", inUser(t, "ls /vol", "-v", bare+":/vol"), "seed")
	equal(t, "nocopy of --mount", inUser(t, "ls /vol", "--mount", "type=volume,src="+sub+",dst=/vol,volume-nocopy"), "")
	inUser(t, "rm /vol/seed; echo own >/vol/own", "-v", a+":/vol")
	equal(t, "what isn't empty is left alone", inUser(t, "ls /vol", "-v", a+":/vol"), "own")
	equal(t, "nested", inUser(t, "ls /vol /vol/in; touch /vol/in/x", "-v", a+":/vol", "-v", sub+":/vol/in"), "/vol:\nin\nown\n\n/vol/in:")
	equal(t, "what is nested stays in its own", inUser(t, "ls /vol/in /inner", "-v", a+":/vol", "-v", sub+":/inner"), "/inner:\nx\n\n/vol/in:")
	fails(t, 125, "(?i)file exists|not a directory|cannot mount volume over existing file", "run", "--rm", "-v", a+":/etc/passwd", image("busybox"), "true")
	equal(t, "readonly", ok(t, "run", "--rm", "--mount", "type=volume,src="+a+",dst=/v,readonly", image("busybox"), "sh", "-c", "touch /v/x 2>&1 | grep -c Read-only"), "1")
	fails(t, 125, `plugin "nosuch" not found`, "run", "--rm", "--volume-driver", "nosuch", "-v", fresh("tv")+":/v", image("busybox"), "true")
	fails(t, 125, `plugin "nosuch" not found`, "run", "--rm", "--mount", "type=volume,src="+fresh("tv")+",dst=/v,volume-driver=nosuch", image("busybox"), "true")
}

func TestVolumesFrom(t *testing.T) {
	dir, named := t.TempDir(), vol(t)
	first := made(t, ok(t, "create", "-v", named+":/named", "-v", "/anon", "-v", dir+":/host:ro", image("user"), "true"))
	second := made(t, ok(t, "create", "-v", "/other", image("busybox"), "true"))
	anon := inspect(t, first, `{{range .Mounts}}{{if eq .Destination "/anon"}}{{.Name}}{{end}}{{end}}`)
	equal(t, "of one that never ran", inUser(t, "cat /vol/seed; echo; touch /named/a /anon/b /other/c; touch /host/d 2>&1 | grep -c Read-only", "--volumes-from", first, "--volumes-from", second), "seed\n1")
	equal(t, "read-only", inUser(t, "ls /named /anon /other; touch /named/x /other/x 2>&1 | grep -c Read-only", "--volumes-from", first+":ro", "--volumes-from", second), "/anon:\nb\n\n/named:\na\n\n/other:\nc\n1")
	equal(t, "an own mount wins", inUser(t, "ls /named | wc -l", "--volumes-from", first, "--tmpfs", "/named"), "0")
	third := made(t, ok(t, "create", "--volumes-from", first, image("busybox"), "true"))
	equal(t, "inspect", inspect(t, third, `{{range .Mounts}}{{if eq .Destination "/anon"}}{{.Type}} {{.RW}} {{eq .Name "`+anon+`"}}{{end}}{{end}} {{.HostConfig.VolumesFrom}}`), "volume true true ["+first+"]")
	equal(t, "nothing is copied", ok(t, "run", "--rm", "--volumes-from", made(t, ok(t, "create", "-v", "/vol", image("busybox"), "true")), image("user"), "ls", "/vol"), "")
	ok(t, "rm", "-v", first)
	equal(t, "still in use", ok(t, "volume", "ls", "-q", "--filter", "name="+anon), anon)
	ok(t, "rm", "-v", third)
	equal(t, "gone with its last user", ok(t, "volume", "ls", "-q", "--filter", "name="+anon), "")
	equal(t, "a named one stays", ok(t, "volume", "ls", "-q", "--filter", "name="+named), named)
	fails(t, 125, "No such container: nosuchone", "run", "--rm", "--volumes-from", "nosuchone", image("busybox"), "true")
	fails(t, 125, "invalid mode: foo", "run", "--rm", "--volumes-from", second+":foo", image("busybox"), "true")
}

func TestVolumeCommands(t *testing.T) {
	a, b := vol(t), vol(t)
	equal(t, "create", ok(t, "volume", "create", "--label", "suite=x", "--label", "l="+a, a), a)
	equal(t, "create again", ok(t, "volume", "create", a), a)
	ok(t, "volume", "create", "--label", "l="+b, b)
	anon := ok(t, "volume", "create", "--label", "l="+a)
	match(t, "a name of its own", anon, "^[0-9a-f]{64}$")
	t.Cleanup(func() { docker(t, "volume", "rm", anon) })
	equal(t, "inspect", ok(t, "volume", "inspect", "--format", "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.suite}}", a), a+" local local x")
	match(t, "its place and time", ok(t, "volume", "inspect", "--format", "{{.Mountpoint}} {{.CreatedAt}}", a), `^/.* 2\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d`)
	ls := func(filters ...string) string {
		t.Helper()
		args := []string{"volume", "ls", "-q"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return ok(t, args...)
	}
	equal(t, "by label and value", ls("label=l="+b), b)
	equal(t, "by two labels", ls("label=l="+a, "label=suite"), a)
	equal(t, "by name", ls("name="+b+"$"), b)
	equal(t, "by the name's beginning", ls("name=^"+b+"$"), b)
	equal(t, "by driver", ls("name="+b, "driver=local"), b)
	equal(t, "by no driver", ls("name="+b, "driver=nosuch"), "")
	id := container(t, "-v", b+":/v:ro", image("busybox"), "sleep", "600")
	equal(t, "in use", ls("name="+b, "dangling=false"), b)
	equal(t, "not dangling", ls("name="+b, "dangling=true"), "")
	equal(t, "dangling", ls("label=suite", "dangling=true"), a)
	fails(t, 1, "(?i)invalid filter", "volume", "ls", "--filter", "dangling=x")
	fails(t, 1, "(?i)invalid filter", "volume", "ls", "--filter", "foo=x")
	fails(t, 1, "remove "+b+`: volume is in use - \[`+id+`\]`, "volume", "rm", b)
	fails(t, 1, "remove "+b+`: volume is in use - \[`+id+`\]`, "volume", "rm", "-f", b)
	fails(t, 1, "get nosuchvol: no such volume", "volume", "rm", "nosuchvol")
	fails(t, 1, "get nosuchvol: no such volume", "volume", "inspect", "nosuchvol")
	ok(t, "volume", "rm", "-f", "nosuchvol")
	fails(t, 1, "volume name is too short, names should be at least two alphanumeric characters", "volume", "create", "x")
	fails(t, 1, "includes invalid characters for a local volume name", "volume", "create", "x/y")
	fails(t, 1, `plugin "nosuch" not found`, "volume", "create", "-d", "nosuch", fresh("tv"))
	pruned := ok(t, "volume", "prune", "-f", "--filter", "label=l="+a, "--filter", "label!=suite")
	match(t, "prune", pruned, anon)
	equal(t, "and nothing else", ls("label=l="+a), a)
	fails(t, 1, "(?i)invalid filter", "volume", "prune", "-f", "--filter", "foo=x")
}

func TestVolumeOptions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bound, memory, missing, strange := vol(t), vol(t), vol(t), vol(t)
	ok(t, "volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", "device="+dir, bound)
	ok(t, "volume", "create", "-o", "type=tmpfs", "-o", "o=size=3m,uid=7", "-o", "device=tmpfs", memory)
	place := ok(t, "volume", "inspect", "--format", "{{.Mountpoint}}", memory)
	equal(t, "options", ok(t, "volume", "inspect", "--format", "{{.Options.type}} {{.Options.o}} {{.Options.device}}", bound), "none bind,ro "+dir)
	equal(t, "a bound directory", ok(t, "run", "--rm", "-v", bound+":/v", image("busybox"), "sh", "-c", "cat /v/f; touch /v/x 2>&1 | grep -c Read-only"), "host\n1")
	one := container(t, "-v", memory+":/v", image("busybox"), "sh", "-c", "echo shared >/v/f; exec sleep 600")
	eventually(t, "a file in memory", func() (bool, string) {
		r := docker(t, "run", "--rm", "-v", memory+":/v", image("busybox"), "sh", "-c", "cat /v/f; df -kP /v | awk 'NR == 2 {print $2}'; stat -c %u /v")
		return r.Out == "shared\n3072\n7\n", r.String()
	})
	mounted := func(want bool) {
		t.Helper()
		got, err := mountinfo.Mounted(place)
		if err != nil || got != want {
			t.Errorf("%s mounted: %v, %v, want %v", place, got, err, want)
		}
	}
	mounted(true)
	ok(t, "rm", "-f", one)
	mounted(false)
	equal(t, "memory forgets", ok(t, "run", "--rm", "-v", memory+":/v", image("busybox"), "ls", "/v"), "")
	equal(t, "copy-up", inUser(t, "ls /vol", "-v", memory+":/vol"), "")
	mounted(false)
	fails(t, 1, `invalid option: "?foo`, "volume", "create", "-o", "foo=x", fresh("tv"))
	fails(t, 1, `missing required option: "device"`, "volume", "create", "-o", "type=tmpfs", fresh("tv"))
	fails(t, 1, `missing required option: "type"`, "volume", "create", "-o", "device=/x", fresh("tv"))
	fails(t, 1, "quota size requested but no quota support", "volume", "create", "-o", "size=1m", fresh("tv"))
	ok(t, "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device="+dir+"/nosuch", missing)
	fails(t, 127, "(?s)error while mounting volume.*failed to mount local volume: mount "+dir+"/nosuch:.*: no such file or directory", "run", "--rm", "-v", missing+":/v", image("busybox"), "true")
	ok(t, "volume", "create", "-o", "type=nosuchfs", "-o", "device=x", strange)
	fails(t, 125, "(?s)error while mounting volume.*failed to mount local volume: mount x:.*: no such device", "run", "--rm", "-v", strange+":/v", image("busybox"), "true")
	ok(t, "volume", "rm", bound)
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "host\n" {
		t.Errorf("after volume rm the host has %q, %v", b, err)
	}
}

// What volumes show outlives brigd with their containers, and goes with them.
func TestVolumeOptionsSurvive(t *testing.T) {
	own(t)
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	s, err := startServer(ctx, fresh("v"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	})
	cli := bed.cli
	cli.Host = s.Host
	run := func(args ...string) string {
		t.Helper()
		r := dockerOn(t, cli, strings.NewReader(""), args...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return strings.TrimRight(r.Out, "\n")
	}
	run("pull", "-q", image("busybox"))
	for _, v := range []string{"kept", "lost"} {
		run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", v)
	}
	place := func(v string) string { return run("volume", "inspect", "--format", "{{.Mountpoint}}", v) }
	kept, lost := place("kept"), place("lost")
	run("run", "-d", "--name", "keeps", "-v", "kept:/v", image("busybox"), "sh", "-c", "echo memory >/v/f; exec sleep 600")
	pid := run("run", "-d", "--name", "ends", "-v", "lost:/v", image("busybox"), "sleep", "600")
	pid = run("inspect", "--format", "{{.State.Pid}}", pid)
	s.Kill()
	killPid(t, pid)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		want bool
	}{{kept, true}, {lost, false}} {
		eventually(t, c.dir, func() (bool, string) {
			got, err := mountinfo.Mounted(c.dir)
			return err == nil && got == c.want, time.Now().String()
		})
	}
	equal(t, "its content", run("run", "--rm", "-v", "kept:/v", image("busybox"), "cat", "/v/f"), "memory")
	run("rm", "-f", "keeps", "ends")
	if got, err := mountinfo.Mounted(kept); err != nil || got {
		t.Errorf("mounted without a user: %v, %v", got, err)
	}
	run("volume", "rm", "kept", "lost")
}

func TestVolumeEvents(t *testing.T) {
	v := vol(t)
	since := ok(t, "info", "--format", "{{.SystemTime}}")
	ok(t, "volume", "create", v)
	ok(t, "run", "--rm", "-v", v+":/v:ro", image("busybox"), "true")
	ok(t, "volume", "rm", v)
	until := ok(t, "info", "--format", "{{.SystemTime}}")
	got := ok(t, "events", "--since", since, "--until", until, "--filter", "type=volume", "--filter", "volume="+v,
		"--format", `{{.Action}} {{.Actor.Attributes.driver}} {{index .Actor.Attributes "destination"}} {{index .Actor.Attributes "read/write"}}`)
	match(t, "events", got, `^(create local  \n)+mount local /v false\nunmount local  \ndestroy local\b`)
}

// killPid kills a process of a container that this test made.
func killPid(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n < 2 {
		t.Fatalf("pid %q: %v", pid, err)
	}
	if err := unix.Kill(n, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
