package build

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestRunSpec(t *testing.T) {
	w := newWorld(t)
	arg := "v"
	w.try("FROM bb\nARG A\nENV E=e\nWORKDIR /w\nUSER app\nVOLUME /v\nSHELL [\"/bin/ash\", \"-ec\"]\nRUN echo shell\nRUN [\"x\", \"echo exec\"]\nRUN --network=none echo none", nil, func(r *brig.BuildRequest) {
		r.Args = map[string]*string{"A": &arg, "HTTP_PROXY": &arg}
		r.Network, r.ExtraHosts, r.Limits.Memory, r.ShmSize, r.CgroupParent, r.Security = "host", []string{"a:1.2.3.4"}, 1<<30, 5, "cg", []string{"seccomp=unconfined", "no-new-privileges"}
		r.Labels = map[string]string{"l": "1"}
	}).ok()
	if len(w.ran) != 3 {
		t.Fatalf("%d runs", len(w.ran))
	}
	s := w.ran[0].Spec
	want := brig.Spec{
		Image: s.Image, User: "app", Cmd: []string{"/bin/ash", "-ec", "echo shell"}, Env: []string{defaultPath, "E=e", "A=v", "HTTP_PROXY=v"}, WorkingDir: "/w",
		Shell: []string{"/bin/ash", "-ec"}, Volumes: []string{"/v"}, AttachOut: true, AttachErr: true, NetworkMode: "host", ExtraHosts: []string{"a:1.2.3.4"},
		Limits: brig.Limits{Memory: 1 << 30}, ShmSize: 5, CgroupParent: "cg", NoNewPrivileges: true, Seccomp: "unconfined",
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v\nwant %+v", s, want)
	}
	if got := w.ran[1].Spec.Cmd; !reflect.DeepEqual(got, []string{"x", "echo exec"}) {
		t.Errorf("%q", got)
	}
	if w.ran[2].Spec.NetworkMode != "none" || w.ran[0].Image != w.bases["bb"].ID || w.ran[0].Platform != host {
		t.Errorf("%+v", w.ran[2])
	}
}

func TestRunRefuses(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ line, want string }{
		{"RUN --security=insecure true", "RUN --security=insecure is not allowed: brig runs build steps without privileges only"},
		{"RUN --mount=type=ssh true", "RUN --mount=type=ssh is not supported: this build has no agent to forward"},
		{"RUN --mount=type=cache true", `invalid mount target "": it is required`},
		{"RUN --mount=type=tmpfs,target=/ true", `invalid mount target "/"`},
		{"RUN --mount=source=nope,target=/x true", "RUN --mount failed: stat nope: file does not exist"},
		{"RUN --mount=source=../x,target=/x true", "RUN --mount failed: forbidden path outside the build context: ../x ()"},
		{"RUN --mount=from=nope:1,target=/x true", "invalid from value nope:1: pull access denied for nope:1"},
		{"RUN --mount=type=secret,id=s,required=true true", "secret s: not found"},
		{"RUN exit 7", "The command '/bin/sh -c exit 7' returned a non-zero code: 7"},
	} {
		if got := w.try("FROM bb\n"+c.line, nil); got.err == nil || got.err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.line, got.err, c.want)
		}
	}
	if got := w.try("FROM bb\nRUN echo", nil, func(r *brig.BuildRequest) { r.Security = []string{"label=x"} }); got.err == nil {
		t.Error("an unknown security option was taken")
	}
}

// TestHeredocs: the shell gets heredocs back, one that is all of a command is the command, and one that names its interpreter is a file.
func TestHeredocs(t *testing.T) {
	w := newWorld(t)
	w.try("FROM bb\nRUN <<E\necho one\necho two\nE\nRUN echo <<A <<-B\n1\nA\n\t2\nB\nRUN <<-E\n\techo tab\nE\nRUN <<S\n#!/bin/x\nscript\nS\n", nil).ok()
	var got []string
	for _, r := range w.ran {
		got = append(got, r.Spec.Cmd[2])
	}
	want := []string{"echo one\necho two\n", "echo <<A <<-B\n1\nA\n\t2\nB", "echo tab\n", "/dev/pipes/S"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	m := w.ran[3].Spec.Mounts
	if len(m) != 1 || m[0].Target != "/dev/pipes" || !m[0].ReadOnly || w.script != "#!/bin/x\nscript\n" {
		t.Errorf("%+v %q", m, w.script)
	}
}

// Cache directories are taken in the order of their names, each once, and given back; what one begins with comes from a stage or not at all.
func TestCacheMounts(t *testing.T) {
	w := newWorld(t)
	w.try(`FROM bb
RUN --mount=type=cache,target=/z --mount=type=cache,target=/y,id=b,sharing=locked --mount=type=cache,target=/x,id=a,sharing=locked --mount=type=cache,target=/w,id=b,sharing=locked echo 1
RUN --mount=type=cache,target=/p,id=p,sharing=private --mount=type=cache,target=/q,id=p,sharing=private echo 2
`, nil).ok()
	if got := strings.Join(w.took, " "); got != "/z a b p p#1" {
		t.Errorf("taken: %s", got)
	}
	m := w.runOf("echo 1").Spec.Mounts
	if m[1].Target != "/y" || m[1].Source != m[3].Source || m[2].Source == m[1].Source || m[0].Target != "/z" {
		t.Errorf("%+v", m)
	}
	for id, n := range w.held {
		if n != 0 {
			t.Errorf("%s is still held: %d", id, n)
		}
	}
	got := w.try("FROM bb AS x\nRUN write /o/f stage\nFROM bb\nRUN --mount=type=cache,id=new,target=/n,from=x,source=/no echo 3\n", nil)
	if got.err == nil || w.held["new"] != 0 {
		t.Errorf("%v, held %v", got.err, w.held)
	}
}

func TestMounts(t *testing.T) {
	w := newWorld(t)
	secrets := func(r *brig.BuildRequest) { r.Secrets = map[string][]byte{"s": []byte("hush"), "env": []byte("quiet")} }
	files := map[string]string{"d/f": "F", "a": "A"}
	got := w.try(`FROM bb AS x
RUN write /o/f stage
FROM bb
RUN --mount=type=bind,source=d,target=/src cat /src/f
RUN --mount=from=x,source=/o,target=rel cat /rel/f
RUN --mount=type=bind,source=d,target=/src,rw write /src/f changed
RUN --mount=type=cache,target=/c,id=k write /c/f cached
RUN --mount=type=cache,target=/d,id=k,sharing=locked cat /d/f
RUN --mount=type=cache,target=/e,from=x,source=/o,mode=0700,uid=3,gid=4 cat /e/f
RUN --mount=type=tmpfs,target=/t,size=1m echo tmp
RUN --mount=type=secret,id=s --mount=type=secret,id=env,env=TOKEN --mount=type=secret,id=s,target=/k,mode=0440,uid=5 env TOKEN
RUN --mount=type=secret,id=missing echo none
`, files, secrets).ok()
	for _, want := range []string{"\nF\n", "\nstage\n", "\ncached\n", "TOKEN=quiet\n"} {
		if !strings.Contains(got.text, want) {
			t.Errorf("no %q in\n%s", want, got.text)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(w.runOf("cat /src/f").Spec.Mounts[0].Source, "f")); string(b) != "F" {
		t.Errorf("a bind has changed the context: %q", b)
	}
	last := w.runOf("env TOKEN")
	want := []brig.Secret{{Target: "/run/secrets/s", Data: []byte("hush"), Mode: 0o400}, {Target: "/k", Data: []byte("hush"), Mode: 0o440, UID: 5}}
	if !reflect.DeepEqual(last.Secrets, want) {
		t.Errorf("%+v", last.Secrets)
	}
	tmp := w.runOf("echo tmp").Spec.Mounts
	if !reflect.DeepEqual(tmp, []brig.Mount{{Type: brig.MountTmpfs, Target: "/t", TmpfsSize: 1 << 20}}) {
		t.Errorf("%+v", tmp)
	}
	for _, s := range got.image.Steps {
		if strings.Contains(s.By, "hush") || strings.Contains(s.By, "quiet") {
			t.Errorf("a secret is in the history: %s", s.By)
		}
		if s.Chain != "" {
			t.Errorf("%s has left a layer", s.By)
		}
	}
	other := w.try("FROM bb\nRUN --mount=type=bind,source=d,target=/src cat /src/f", map[string]string{"d/f": "new"}).ok()
	if s := steps(other.text); s != "|r" {
		t.Errorf("a mount's content isn't in the key: %s", s)
	}
	hidden := w.try("FROM bb\nRUN --mount=type=secret,id=s echo same", nil, secrets).ok()
	changed := w.try("FROM bb\nRUN --mount=type=secret,id=s echo same", nil, func(r *brig.BuildRequest) { r.Secrets = map[string][]byte{"s": []byte("new")} }).ok()
	if steps(changed.text) != "|c" || hidden.id != changed.id {
		t.Errorf("a secret's content is in the key:\n%s", changed.text)
	}
}

// TestWorkdir: it is made if it isn't there, and no layer is left if it is.
func TestWorkdir(t *testing.T) {
	w := newWorld(t)
	got := w.try("FROM bb\nWORKDIR /old\nWORKDIR new/er\nUSER app\nWORKDIR /x", nil).ok()
	if got.list("old/new") != "/old/new drwxr-xr-x 0:0\n/old/new/er drwxr-xr-x 0:0" || got.list("x") != "/x drwxr-xr-x 0:0" {
		t.Error(got.list("old"))
	}
	if got.image.Steps[0].Chain != "" || got.image.Steps[1].Chain == "" || got.image.Config.WorkingDir != "/x" {
		t.Errorf("%+v", got.image)
	}
}

// TestFromAlone is the base under more names; scratch alone is no image.
func TestFromAlone(t *testing.T) {
	w := newWorld(t)
	got := w.try("FROM bb", nil, func(r *brig.BuildRequest) { r.Tags = []string{"x"} }).ok()
	if len(got.image.Steps) != 0 || got.image.Base != w.bases["bb"].ID {
		t.Errorf("%+v", got.image)
	}
	if got := w.try("FROM scratch", nil); got.err == nil || got.err.Error() != "No image was generated. Is your Dockerfile empty?" {
		t.Error(got.err)
	}
	empty := w.try("FROM scratch\nCMD [\"x\"]\nMAINTAINER me", nil).ok()
	if empty.image.Base != "" || empty.image.Author != "me" || !reflect.DeepEqual(empty.image.Config.Env, []string{defaultPath}) {
		t.Errorf("%+v", empty.image)
	}
}

func TestKeepContainers(t *testing.T) {
	w := newWorld(t)
	got := w.try("FROM bb\nRUN echo x\nLABEL a=b", nil, func(r *brig.BuildRequest) { r.Keep = true }).ok()
	if strings.Contains(got.text, "Removing") || !w.ran[0].Keep || !w.ran[0].KeepFailed {
		t.Errorf("%+v\n%s", w.ran[0], got.text)
	}
	got = w.try("FROM bb\nRUN exit 1", nil, func(r *brig.BuildRequest) { r.ForceRemove = true })
	if !strings.Contains(got.text, "Removing intermediate container") || w.ran[1].KeepFailed {
		t.Errorf("%+v\n%s", w.ran[1], got.text)
	}
}

// TestTriggers: what a base image asks its children for is done first, is not asked of grandchildren, and may need stages that nothing else does.
func TestTriggers(t *testing.T) {
	w := newWorld(t)
	w.base("on", brig.ImageConfig{OnBuild: []string{"COPY --from=hidden /h /got", "ENV T=1"}}, map[string]string{"x": "x"})
	got := w.try("FROM bb AS hidden\nRUN write /h x\nFROM on\nRUN env T", nil).ok()
	if !strings.Contains(got.text, "# Executing 2 build triggers\n") || !strings.Contains(got.text, "\nT=1\n") || len(got.image.Config.OnBuild) != 0 {
		t.Errorf("%s\n%+v", got.text, got.image.Config)
	}
	if got.list("got") != `/got -rw-r--r-- 0:0 "x"` {
		t.Error(got.list("got"))
	}
}
