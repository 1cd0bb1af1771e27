package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestPull(t *testing.T) {
	ref := image("busybox:2")
	r := docker(t, "pull", ref)
	equal(t, "exit code", r.Code, 0)
	match(t, "output", r.Out, `(?s)^2: Pulling from busybox\n.*Digest: sha256:[0-9a-f]{64}\nStatus: (Downloaded newer image|Image is up to date) for `+regexp.QuoteMeta(ref)+`\n`+regexp.QuoteMeta(ref)+`\n$`)
	match(t, "again", ok(t, "pull", ref), "Status: Image is up to date for "+regexp.QuoteMeta(ref))
	equal(t, "quiet", ok(t, "pull", "-q", ref), ref)
	digest := inspect(t, ref, "{{index .RepoDigests 0}}")
	match(t, "digest", digest, `@sha256:[0-9a-f]{64}$`)
	equal(t, "by digest", ok(t, "pull", "-q", digest), digest)
	equal(t, "its image", inspect(t, digest, "{{.Id}}"), inspect(t, ref, "{{.Id}}"))
	equal(t, "one id for two tags", inspect(t, image("busybox"), "{{.Id}}"), inspect(t, ref, "{{.Id}}"))
	match(t, "all tags", ok(t, "pull", "-a", image("busybox")), `(?s)latest: Pulling from busybox.*2: Pulling|2: Pulling from busybox.*latest: Pulling`)
	fails(t, 1, "(manifest unknown|not found)", "pull", image("busybox:nosuch"))
	fails(t, 1, "(not found|repository does not exist|manifest unknown)", "pull", image("nosuch"))
	fails(t, 1, "(manifest unknown|not found)", "pull", image("busybox")+"@sha256:"+strings.Repeat("0", 64))
	fails(t, 1, "invalid reference format", "pull", "UPPER/:x")
}

func TestPullFormats(t *testing.T) {
	for _, name := range []string{"plain", "zstd"} {
		t.Run(name, func(t *testing.T) {
			if reason, differs := dockerdDiffers[name]; differs && !bed.server.Owned {
				t.Skip(reason)
			}
			ok(t, "pull", "-q", image(name))
			equal(t, "run", ok(t, "run", "--rm", image(name), "sh", "-c", "grep -c root /etc/group"), "1")
		})
	}
}

func TestPullPlatform(t *testing.T) {
	dangling := func() []string { return strings.Fields(ok(t, "images", "-q", "--filter", "dangling=true")) }
	for _, arch := range []string{"amd64", "arm64"} {
		ok(t, "pull", "-q", "--platform", "linux/"+arch, image("multi"))
		equal(t, arch, inspect(t, image("multi"), "{{.Architecture}} {{index .Config.Env 1}}"), arch+" FOR="+arch)
	}
	ok(t, "pull", "-q", image("multi"))
	equal(t, "dangling", len(dangling()), 1)
	ok(t, append([]string{"rmi"}, dangling()...)...)
	equal(t, "host's own", inspect(t, image("multi"), "{{.Architecture}}"), runtime.GOARCH)
	fails(t, 1, "no (matching )?manifest|no match for platform", "pull", "--platform", "linux/s390x", image("multi"))
}

func TestLayers(t *testing.T) {
	out := ok(t, "run", "--rm", image("layers"), "sh", "-c", "find /data /opaque /gone | sort; cat /data/b; stat -c ' %a' /gone")
	equal(t, "files", out, "/data\n/data/b\n/gone\n/gone/new\n/opaque\n/opaque/y\nb2 700")
	equal(t, "layers", inspect(t, image("layers"), "{{len .RootFS.Layers}}"), "4")
}

func TestImages(t *testing.T) {
	id := inspect(t, image("busybox"), "{{.Id}}")
	match(t, "id", id, "^sha256:[0-9a-f]{64}$")
	match(t, "table", ok(t, "images", image("busybox:latest")), `^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE\n`+regexp.QuoteMeta(image("busybox"))+` +latest +`+id[7:19]+` +.* ago +\S+B$`)
	equal(t, "quiet", ok(t, "images", "-q", "--no-trunc", image("busybox:latest")), id)
	equal(t, "reference", ok(t, "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+bed.reg+"/ent*"), image("entry:latest"))
	equal(t, "label", ok(t, "images", "--format", "{{.Tag}}", "--filter", "label=color=green"), "latest")
	equal(t, "nothing dangling", ok(t, "images", "-q", "--filter", "dangling=true"), "")
	equal(t, "ls", ok(t, "image", "ls", "-q", image("nosuch")), "")
	match(t, "history", ok(t, "history", "--format", "{{.CreatedBy}}", image("layers")), `^layer 4\nlayer 3\nlayer 2\nlayer 1$`)
	match(t, "history's ids", ok(t, "history", "-q", "--no-trunc", image("busybox")), "^"+id)
	var got []struct {
		ID, Os, Architecture string
		RepoTags             []string
		Size                 int64
		Config               struct {
			User, WorkingDir, StopSignal string
			Env                          []string
			Volumes, ExposedPorts        map[string]struct{}
			Labels                       map[string]string
		}
		RootFS struct{ Type string }
	}
	if err := json.Unmarshal([]byte(ok(t, "image", "inspect", image("user"))), &got); err != nil || len(got) != 1 {
		t.Fatalf("%d images, %v", len(got), err)
	}
	c := got[0].Config
	equal(t, "config", strings.Join([]string{c.User, c.WorkingDir, c.StopSignal, c.Labels["color"], c.Env[1]}, " "), "app /home/app SIGINT green FROM_IMAGE=yes")
	if _, v := c.Volumes["/vol"]; !v || len(c.ExposedPorts) != 1 || got[0].Size == 0 || got[0].RootFS.Type != "layers" {
		t.Errorf("image inspect: %+v", got[0])
	}
	fails(t, 1, "(?i)no such image: nosuch", "image", "inspect", "nosuch")
	fails(t, 1, "(?i)no such image", "history", "nosuch")
}

func TestTagAndRemove(t *testing.T) {
	t.Cleanup(func() { ok(t, "pull", "-q", image("busybox")) }) // the same image by another name, which goes with it
	ref := image("plain")
	ok(t, "pull", "-q", ref)
	id := inspect(t, ref, "{{.Id}}")
	a := fresh("tag") + ":1"
	ok(t, "tag", ref, a)
	ok(t, "tag", id[7:19], fresh("tag"))
	equal(t, "by tag", inspect(t, a, "{{.Id}}"), id)
	match(t, "when", inspect(t, a, "{{.Metadata.LastTagTime}}"), "^20")
	fails(t, 1, "(?i)no such image", "tag", "nosuch", "x:1")
	fails(t, 1, "not a valid repository/tag|invalid reference format", "tag", ref, "Upper:1")
	match(t, "untag", ok(t, "rmi", a), `^Untagged: `+a+`$`)
	fails(t, 1, "(?i)no such image", "rmi", a)
	fails(t, 1, "(?i)conflict.*must be forced|is referenced in multiple repositories", "rmi", id[7:19])

	used := made(t, ok(t, "create", ref, "true"))
	fails(t, 1, "(?i)conflict.*(must force|must be forced|in use|using|multiple)", "rmi", id)
	ok(t, "rm", used)
	running := container(t, ref, "sleep", "600")
	fails(t, 1, "(?i)conflict.*running container|conflict.*cannot be forced", "rmi", "-f", id)
	ok(t, "rm", "-f", running)
	out := ok(t, "rmi", "-f", id)
	match(t, "delete", out, `(?s)Untagged: .*Deleted: `+id)
	fails(t, 1, "(?i)no such image", "image", "inspect", id)
}

func TestSaveAndLoad(t *testing.T) {
	tag := fresh("saved") + ":1"
	ok(t, "tag", image("layers"), tag)
	id := inspect(t, tag, "{{.Id}}")
	file := filepath.Join(t.TempDir(), "image.tar")
	ok(t, "save", "-o", file, tag)
	equal(t, "untag", ok(t, "rmi", tag), "Untagged: "+tag)
	equal(t, "load", ok(t, "load", "-i", file), "Loaded image: "+tag)
	equal(t, "the same image", inspect(t, tag, "{{.Id}}"), id)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ok(t, "rmi", tag)
	r := dockerIn(t, string(b), "load", "-q")
	equal(t, "load from stdin", r.Out, "Loaded image: "+tag+"\n")
	equal(t, "its content", ok(t, "run", "--rm", tag, "cat", "/data/b"), "b2")
	ok(t, "rmi", tag)
	fails(t, 1, "(?i)no such image|reference does not exist|not found", "save", "-o", file, "nosuch:1")
	fails(t, 1, "(?i)unexpected EOF|invalid|no such file|EOF", "load", "-i", tempFile(t, "bad.tar", string(b[:4000])))
}
