package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// buildDir is a build context of names and texts, one after the other.
func buildDir(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for n := 0; n < len(files); n += 2 {
		path := filepath.Join(dir, files[n])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[n+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// builtTag is a fresh name for an image, which goes with the test.
func builtTag(t testing.TB) string {
	tag := "built/" + fresh("i")
	t.Cleanup(func() { docker(t, "rmi", "-f", tag) })
	return tag
}

// base is a line FROM of a Dockerfile.
func base() string { return "FROM " + image("busybox") + "\n" }

func TestBuildReadsAsDockers(t *testing.T) {
	tag := builtTag(t)
	dir := buildDir(t, "f", "hi\n", "Dockerfile", base()+"ARG who=none\nRUN echo out $who; echo err >&2; echo "+tag+" >/tag\nENV A=1\nCOPY f /d/\nCMD [\"cat\", \"/d/f\"]\n")
	ok(t, "pull", "-q", image("busybox"))
	steps := []string{
		`Sending build context to Docker daemon .*`,
		`Step 1/6 : FROM \S+`, ` ---> [0-9a-f]{12}`, `Step 2/6 : ARG who=none`, ` ---> Running in [0-9a-f]{12}`, `Removing intermediate container [0-9a-f]{12}`, ` ---> [0-9a-f]{12}`,
		`Step 3/6 : RUN .*`, ` ---> Running in [0-9a-f]{12}`, `out me`, `err`, `Removing intermediate container [0-9a-f]{12}`, ` ---> [0-9a-f]{12}`,
		`Step 4/6 : ENV A=1`, ` ---> Running in [0-9a-f]{12}`, `Removing intermediate container [0-9a-f]{12}`, ` ---> [0-9a-f]{12}`, `Step 5/6 : COPY f /d/`, ` ---> [0-9a-f]{12}`,
		`Step 6/6 : CMD \["cat", "/d/f"\]`, ` ---> Running in [0-9a-f]{12}`, `Removing intermediate container [0-9a-f]{12}`, ` ---> [0-9a-f]{12}`,
		`Successfully built [0-9a-f]{12}`, `Successfully tagged ` + tag + `:latest`, `Successfully tagged ` + tag + `:two`,
	}
	r := docker(t, "build", "--build-arg", "who=me", "-t", tag, "-t", tag+":two", dir)
	t.Cleanup(func() { docker(t, "rmi", "-f", tag+":two") })
	plain := strings.NewReplacer("\x1b[91m", "", "\x1b[0m", "").Replace(r.Out) // dockerd shows standard error in red
	got := strings.Split(strings.TrimRight(plain, "\n"), "\n")
	if r.Code != 0 || len(got) != len(steps) {
		t.Fatalf("%d lines, want %d: %s", len(got), len(steps), r)
	}
	if n := slices.Index(steps, "out me"); got[n] == "err" { // what a process writes to two pipes comes in no certain order
		got[n], got[n+1] = got[n+1], got[n]
	}
	for n, l := range got {
		if !regexp.MustCompile("^" + steps[n] + "$").MatchString(l) {
			t.Errorf("line %d is %q, want %q", n+1, l, steps[n])
		}
	}
	if out := ok(t, "run", "--rm", tag); out != "hi" {
		t.Errorf("the image says %q", out)
	}
	again := docker(t, "build", "--build-arg", "who=me", "-t", tag, dir)
	if n := strings.Count(again.Out, " ---> Using cache\n"); again.Code != 0 || n != 5 {
		t.Errorf("%d steps of 5 were taken from the cache: %s", n, again)
	}
	if a, b := lastBuilt(r.Out), lastBuilt(again.Out); a == "" || a != b {
		t.Errorf("from the cache comes %s, not %s", b, a)
	}
	cold := docker(t, "build", "--no-cache", "--build-arg", "who=me", "-t", tag, dir)
	if cold.Code != 0 || strings.Contains(cold.Out, "Using cache") || !strings.Contains(cold.Out, "out me\n") {
		t.Errorf("--no-cache: %s", cold)
	}
}

var lastBuiltRE = regexp.MustCompile(`Successfully built ([0-9a-f]{12})\n`)

func lastBuilt(out string) string {
	m := lastBuiltRE.FindStringSubmatch(out)
	if m == nil {
		return ""
	}
	return m[1]
}

func TestBuildQuietAndIIDFile(t *testing.T) {
	tag := builtTag(t)
	dir := buildDir(t, "Dockerfile", base()+"RUN echo said\nLABEL n="+tag+"\n")
	iid := filepath.Join(t.TempDir(), "iid")
	r := docker(t, "build", "-q", "-t", tag, "--iidfile", iid, dir)
	id := strings.TrimSpace(r.Out)
	match(t, "build -q", id, `^sha256:[0-9a-f]{64}$`)
	if r.Code != 0 || strings.Contains(r.Out+r.Err, "said") {
		t.Errorf("build -q: %s", r)
	}
	if b, err := os.ReadFile(iid); err != nil || strings.TrimSpace(string(b)) != id { // the command doesn't trim what -q says
		t.Errorf("--iidfile: %q, %v, want %s", b, err, id)
	}
	if got := ok(t, "image", "inspect", "-f", "{{.Id}}", tag); got != id {
		t.Errorf("the image is %s, not %s", got, id)
	}
	r = docker(t, "build", "--iidfile", iid, dir)
	if b, err := os.ReadFile(iid); err != nil || string(b) != id || r.Code != 0 {
		t.Errorf("--iidfile without -q: %q, %v, want %s", b, err, id)
	}
}

func TestBuildFails(t *testing.T) {
	tag := builtTag(t)
	containers := ok(t, "ps", "-aq")
	dir := buildDir(t, "Dockerfile", base()+"RUN echo "+tag+"; exit 7\nRUN echo never\n")
	for _, args := range [][]string{{"build", dir}, {"build", "-q", dir}} {
		r := docker(t, args...)
		if r.Code != 7 || !strings.Contains(r.Err, "The command '/bin/sh -c echo "+tag+"; exit 7' returned a non-zero code: 7") || !strings.Contains(r.Out+r.Err, "Step 2/3 :") || strings.Contains(r.Out, "never\n") {
			t.Errorf("a RUN that fails: %s", r)
		}
	}
	for _, c := range []struct{ dockerfile, words string }{
		{"FOO x\n", "Error response from daemon: dockerfile parse error.* unknown instruction: FOO"},
		{base() + "COPY nosuch /\n", "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist"},
		{"FROM " + image("nosuch") + "\n", "nosuch"},
		{"", "(?i)the Dockerfile.* cannot be empty"},
	} {
		fails(t, 1, c.words, "build", buildDir(t, "Dockerfile", c.dockerfile))
	}
	fails(t, 1, "failed to reach build target zz in Dockerfile", "build", "--target", "zz", buildDir(t, "Dockerfile", base()))
	fails(t, 1, "unable to prepare context", "build", "-f", "nosuch", dir)
	// docker build asks for --rm, but a RUN that fails leaves its container, as with dockerd; --force-rm doesn't.
	var left []string
	for _, id := range strings.Fields(ok(t, "ps", "-aq")) {
		if !strings.Contains(containers, id) {
			left = append(left, id)
		}
	}
	t.Cleanup(func() { docker(t, append([]string{"rm", "-f"}, left...)...) })
	if len(left) == 0 {
		t.Error("the failed RUN's container is not there to look at")
	}
	before := ok(t, "ps", "-aq")
	fails(t, 7, "non-zero code: 7", "build", "--force-rm", dir)
	if after := ok(t, "ps", "-aq"); after != before {
		t.Errorf("--force-rm leaves containers: %s, before %s", after, before)
	}
}

func TestBuildContexts(t *testing.T) {
	dockerfile := base() + "COPY . /ctx/\nCMD [\"cat\", \"/ctx/f\"]\n"
	dir := buildDir(t, "Dockerfile", dockerfile, "f", "of a directory", "other/D", base()+"COPY other/g /g\nCMD [\"cat\", \"/g\"]\n", "other/g", "of another Dockerfile")
	says := func(want string, stdin string, args ...string) {
		t.Helper()
		tag := builtTag(t)
		if r := dockerIn(t, stdin, append([]string{"build", "-t", tag}, args...)...); r.Code != 0 {
			t.Errorf("%s", r)
			return
		}
		if out := docker(t, "run", "--rm", tag); out.Out != want {
			t.Errorf("build %v: %s, want %q", args, out, want)
		}
	}
	says("of a directory", "", dir)
	says("of another Dockerfile", "", "-f", filepath.Join(dir, "other", "D"), dir)
	says("from stdin", base()+"CMD [\"printf\", \"from stdin\"]\n", "-")
	says("of a directory", base()+"COPY f /elsewhere\nCMD [\"cat\", \"/elsewhere\"]\n", "-f", "-", dir)
	plain := contextTar(t, dir)
	says("of a directory", string(plain), "-")
	says("of another Dockerfile", string(plain), "-f", "other/D", "-")
	for _, program := range []string{"gzip", "bzip2", "xz", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("%s is not here", program)
			continue
		}
		if program == "zstd" && !bed.server.Owned {
			t.Log(dockerdDiffers[program])
			continue
		}
		cmd := exec.CommandContext(t.Context(), program, "-c")
		cmd.Stdin = bytes.NewReader(plain)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		says("of a directory", string(packed), "-")
	}
}

// TestBuildIgnores has .dockerignore leave files out, and a Dockerfile's own ignore file win over it where the client knows that.
func TestBuildIgnores(t *testing.T) {
	tag := builtTag(t)
	dir := buildDir(t, "Dockerfile", base()+"COPY . /ctx/\nCMD [\"sh\", \"-c\", \"cd /ctx && find . -type f | sort\"]\n", ".dockerignore", "# no\n*.o\n!keep.o\nsub\n!sub/in\nDockerfile\n",
		"a.o", "", "keep.o", "", "b.c", "", "sub/out", "", "sub/in", "")
	ok(t, "build", "-t", tag, dir)
	if got := ok(t, "run", "--rm", tag); got != "./.dockerignore\n./b.c\n./keep.o\n./sub/in" {
		t.Errorf("the image has %q", got)
	}
}

// TestBuildRemotes has the server fetch contexts by itself, which docker-py and other clients ask for. docker build fetches them for itself.
func TestBuildRemotes(t *testing.T) {
	dockerfile := base() + "COPY f* sub/f* /ctx/\nCMD [\"sh\", \"-c\", \"cat /ctx/f\"]\n"
	dir := buildDir(t, "Dockerfile", dockerfile, "f", "first\n", "sub/Dockerfile", base()+"COPY f /\nCMD [\"cat\", \"/f\"]\n", "sub/f", "of the folder\n", "alone", base()+"CMD [\"echo\", \"alone\"]\n")
	mux := http.NewServeMux()
	mux.Handle("/plain/", http.StripPrefix("/plain", http.FileServer(http.Dir(dir))))
	mux.HandleFunc("/context.tar", func(w http.ResponseWriter, _ *http.Request) { w.Write(contextTar(t, filepath.Join(dir, "sub"))) })
	repo := gitServer(t, dir)
	mux.Handle("/git/", repo)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for _, c := range []struct{ remote, want string }{
		{"/plain/alone", "alone\n"}, {"/context.tar", "of the folder\n"}, {"/git/x.git", "first\nof the folder\n"}, {"/git/x.git#main:sub", "of the folder\n"}, {"/git/x.git#old:sub", "old\n"},
	} {
		if !bed.server.Owned && strings.HasSuffix(c.remote, ".git") {
			continue // dockerd 20.10 asks for a branch of the name master
		}
		tag := builtTag(t)
		r := buildByAPI(t, bed.server.Host, "t="+tag+"&remote="+strings.ReplaceAll(srv.URL+c.remote, "#", "%23"))
		if strings.HasPrefix(c.want, "first") {
			c.want = "of the folder\n" // the second source of COPY with that name
		}
		if r.Code != 0 {
			t.Errorf("%s: %s", c.remote, r)
			continue
		}
		if out := docker(t, "run", "--rm", tag); out.Out != c.want {
			t.Errorf("%s: %s, want %q", c.remote, out, c.want)
		}
		if c.remote == "/plain/alone" || c.remote == "/git/x.git#old:sub" {
			if out := ok(t, "build", "-q", srv.URL+c.remote); out == "" { // and the docker command the same
				t.Errorf("docker build %s says nothing", c.remote)
			}
		}
	}
	for remote, words := range map[string]string{
		"zz": "could not be recognized as URL", srv.URL + "/nosuch": "404", srv.URL + "/git/x.git%23nosuch": "couldn't find remote ref nosuch", "client-session": "DOCKER_BUILDKIT=0",
		srv.URL + "/git/x.git%23main:nosuch": "nosuch",
	} {
		if !bed.server.Owned && remote == "client-session" {
			words = "use builder version v2 (BuildKit)"
		}
		if r := buildByAPI(t, bed.server.Host, "remote="+remote); r.Code == 0 || !strings.Contains(r.Err, words) {
			t.Errorf("%s: %s, want %q", remote, r, words)
		}
	}
}

// gitServer serves a repository of what is in dir as /git/x.git, in the smart way. A tag old has another file sub/f.
func gitServer(t *testing.T, dir string) http.Handler {
	t.Helper()
	if reason := hostDiffers["git"]; reason != "" {
		t.Skip(reason)
	}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	sh := exec.Command("sh", "-ec", `export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
		git init -q -b main w; cp -r "$1"/. w; cd w; new=$(cat sub/f); echo old >sub/f; git add .; git commit -qm 1; git tag old; echo "$new" >sub/f; git commit -qam 2
		cd ..; git clone -q --bare w x.git`, "-", dir)
	sh.Dir = root
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/git", Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}, InheritEnv: []string{"PATH"}}
}

func TestBuildOptions(t *testing.T) {
	tag := builtTag(t)
	dir := buildDir(t, "Dockerfile", base()+"ARG a\nARG b=dflt\nRUN echo \"a=$a b=$b\" >/args; cat /etc/hosts >/hosts; ulimit -n >/nofile; ifconfig -a | grep -o '^[a-z0-9]*' >/net; df -k /dev/shm | tail -n 1 >/shm\n"+
		"FROM "+image("busybox")+" AS middle\nENV IN=middle\nFROM middle\nCOPY --from=0 /args /hosts /nofile /net /shm /got/\n")
	r := docker(t, "build", "-t", tag, "--build-arg", "a=x y", "--label", "l=1", "--label", "e=", "--add-host", "h.example:1.2.3.4", "--ulimit", "nofile=77:88", "--network", "none",
		"--memory", "64m", "--cpu-shares", "100", "--shm-size", "1m", "--pull", "--build-arg", "unused=1", dir)
	if r.Code != 0 {
		t.Fatal(r)
	}
	match(t, "an argument that nobody wants", r.Out+r.Err, `\[Warning\] One or more build-args \[unused\] were not consumed`)
	got := ok(t, "run", "--rm", tag, "sh", "-c", "cd /got; cat args nofile net; grep h.example hosts; cat shm")
	for _, want := range []string{"a=x y b=dflt", "\n77\n", "\nlo\n", "1.2.3.4\th.example", " 1024 "} {
		if !strings.Contains(got, want) {
			t.Errorf("RUN has seen %q, want %q in it", got, want)
		}
	}
	if strings.Contains(got, "eth0") {
		t.Errorf("--network none: %q", got)
	}
	if l := ok(t, "image", "inspect", "-f", "{{json .Config.Labels}}", tag); l != `{"e":"","l":"1"}` {
		t.Errorf("labels: %s", l)
	}
	ok(t, "build", "--cache-from", "nosuch:1,"+tag, dir) // what isn't here is passed over
	target := builtTag(t)
	ok(t, "build", "-t", target, "--target", "middle", dir)
	if env := ok(t, "image", "inspect", "-f", "{{.Config.Env}}", target); !strings.Contains(env, "IN=middle") {
		t.Errorf("--target: %s", env)
	}
	fails(t, 1, "is only supported on a Docker daemon with experimental features enabled", "build", "--squash", dir)
	fails(t, 1, "security options on build", "build", "--security-opt", "seccomp=unconfined", dir)
	if bed.server.Owned { // dockerd takes the steps from the cache before it looks at the limits
		fails(t, 1, "Minimum memory limit allowed is 6MB", "build", "--memory", "4m", dir)
	}
}

// TestBuildWithoutBuildx has the docker command find out by itself that there is neither buildx nor BuildKit.
func TestBuildWithoutBuildx(t *testing.T) {
	dir := buildDir(t, "Dockerfile", base()+"CMD [\"echo\", \"built\"]\n")
	cli := bed.cli
	cli.Env = append(cli.Env, "DOCKER_BUILDKIT=")
	tag := builtTag(t)
	r := dockerOn(t, cli, nil, "build", "-t", tag, dir)
	if r.Code != 0 || !strings.Contains(r.Out, "Successfully tagged "+tag+":latest\n") {
		t.Errorf("%s", r)
	}
	cli.Env = append(cli.Env, "DOCKER_BUILDKIT=1")
	if r := dockerOn(t, cli, nil, "build", dir); r.Code == 0 || !strings.Contains(r.Err, "buildx") {
		t.Errorf("DOCKER_BUILDKIT=1: %s", r)
	}
	if !bed.server.Owned {
		return
	}
	for _, path := range []string{"/session", "/grpc"} {
		conn, err := net.Dial("unix", strings.TrimPrefix(bed.server.Host, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req, err := http.NewRequest("POST", "http://d"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "h2c")
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v, %v", path, resp, err)
		}
	}
}

// TestBuildCacheShowsAndGoes looks at the cache by docker system df and docker builder prune.
func TestBuildCacheShowsAndGoes(t *testing.T) {
	own(t) // dockerd's shows nothing of what its classic builder keeps
	tag := builtTag(t)
	dir := buildDir(t, "Dockerfile", base()+"RUN head -c 3000000 /dev/zero >/"+strings.ReplaceAll(tag, "/", "-")+"\nRUN echo 2\n")
	ok(t, "build", "-t", tag, dir)
	mine := func() (all []map[string]any) {
		var df struct{ BuildCache []map[string]any }
		if err := json.Unmarshal([]byte(getBody(t, "/v1.51/system/df?type=build-cache")), &df); err != nil {
			t.Fatal(err)
		}
		for _, e := range df.BuildCache {
			if strings.Contains(e["Description"].(string), strings.ReplaceAll(tag, "/", "-")) {
				all = append(all, e)
			}
		}
		return all
	}
	if all := mine(); len(all) != 1 || all[0]["Shared"] != true || all[0]["Type"] != "regular" || all[0]["Size"].(float64) < 3000000 {
		t.Errorf("the cache has %v", all)
	}
	match(t, "system df", ok(t, "system", "df"), `Build Cache +[1-9][0-9]* +\d+ +\S+ +\S+`)
	match(t, "system df -v", ok(t, "system", "df", "-v"), `(?s)Build cache usage: .*CACHE ID +CACHE TYPE .*regular`)
	ok(t, "builder", "prune", "-f") // what images share stays
	if all := mine(); len(all) != 1 {
		t.Errorf("prune has taken what an image shares: %v", all)
	}
	ok(t, "rmi", tag)
	if all := mine(); len(all) != 1 || all[0]["Shared"] != false {
		t.Errorf("without the image, the cache has %v", all)
	}
	out := ok(t, "builder", "prune", "-f", "--filter", "until=24h")
	if all := mine(); len(all) != 1 {
		t.Errorf("prune has taken what is newer than that: %s", out)
	}
	out = ok(t, "builder", "prune", "-f")
	if all := mine(); len(all) != 0 {
		t.Errorf("prune leaves %v: %s", all, out)
	}
	match(t, "builder prune", out, `(?s)Deleted build cache objects:.*Total reclaimed space: \S+[MG]B`)
	again := docker(t, "build", "-t", tag, dir)
	if again.Code != 0 || strings.Contains(again.Out, "Using cache") {
		t.Errorf("after the prune: %s", again)
	}
	ok(t, "rmi", tag)
	ok(t, "builder", "prune", "-af")
	match(t, "system df after prune -a", ok(t, "system", "df"), `Build Cache +0 +0 +0B`)
}

// TestBuildCompose has docker compose build a service's image, by itself and with up.
func TestBuildCompose(t *testing.T) {
	cli := testbed.CLI{Host: bed.server.Host, Config: t.TempDir(), Env: []string{"DOCKER_BUILDKIT="}}
	if err := testbed.Compose("../.cache", cli.Config); err != nil {
		t.Skip(err)
	}
	tag := builtTag(t)
	dir := buildDir(t, "app/Dockerfile", base()+"ARG who\nRUN echo hello $who >/said\nCMD [\"cat\", \"/said\"]\n", "compose.yaml",
		"services:\n  app:\n    image: "+tag+"\n    build:\n      context: app\n      args: {who: compose}\n      labels: {from: compose}\n")
	project := fresh("cb")
	compose := func(args ...string) testbed.Result {
		return dockerOn(t, cli, nil, append([]string{"compose", "-p", project, "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml")}, args...)...)
	}
	t.Cleanup(func() { compose("down", "--rmi", "local") })
	for _, args := range [][]string{{"build"}, {"up", "--build", "--no-log-prefix", "--abort-on-container-exit"}} {
		r := compose(args...)
		if r.Code != 0 {
			t.Fatalf("%s", r)
		}
		if args[0] == "up" && !strings.Contains(r.Out, "hello compose") {
			t.Errorf("the service says nothing: %s", r)
		}
	}
	if l := ok(t, "image", "inspect", "-f", "{{index .Config.Labels \"from\"}}", tag); l != "compose" {
		t.Errorf("labels: %s", l)
	}
}

// getBody asks the suite's server.
func getBody(t testing.TB, path string) string {
	t.Helper()
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://d" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
	}
	return string(b)
}
