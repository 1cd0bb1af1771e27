package integration

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// What has been recorded of dockerd 20.10; of brig, where it differs; and what was written by hand for Dockerfiles that dockerd's classic builder doesn't know.
const (
	recordDockerd = "testdata/build-dockerd.txt"
	recordBrig    = "testdata/build-brig.txt"
	recordHand    = "testdata/build-hand.txt"
)

// TestBuildTable builds the Dockerfiles of testdata/build and compares exit code, what docker build prints, the image's config and history, and its tree
// as docker save has it with what was recorded of dockerd 20.10. Where brig differs, buildDiffers says why, and brig's own record is compared.
// BRIG_TEST_RECORD=1 records the answers of the server that runs. BRIG_TEST_BUILDS=PREFIX chooses cases by their names.
func TestBuildTable(t *testing.T) {
	web := newBuildWeb(t)
	dockerd, own, hand := readRecord(t, recordDockerd), readRecord(t, recordBrig), readRecord(t, recordHand)
	for name, why := range buildDiffers {
		if os.Getenv("BRIG_TEST_RECORD") == "" && (own[name] == "" || own[name] == dockerd[name]) {
			t.Errorf("%s doesn't differ: %s", name, why)
		}
	}
	got := buildRecord{}
	for _, name := range []string{"multi", "onbuild", "busybox:2"} { // a build that pulled them would say so, or not
		ok(t, "pull", "-q", image(name))
	}
	var order []string
	t.Run("case", func(t *testing.T) {
		for _, c := range allBuildCases(t) {
			if _, byHand := hand[c.name]; byHand && !bed.server.Owned {
				continue // it refuses them
			}
			order = append(order, c.name)
			if only := os.Getenv("BRIG_TEST_BUILDS"); !strings.HasPrefix(c.name, only) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				if reason := hostDiffers["git"]; reason != "" && strings.Contains(c.name, "-git") {
					t.Skip(reason)
				}
				if reason := hostDiffers["build "+c.name]; reason != "" {
					t.Skip(reason)
				}
				t.Parallel()
				said := c.run(t, bed.cli, web)
				got.add(c.name, said)
				if os.Getenv("BRIG_TEST_RECORD") != "" {
					return
				}
				want := dockerd[c.name]
				if byHand := hand[c.name]; byHand != "" {
					want, said = byHand, onlyResult(said)
				}
				if _, differs := buildDiffers[c.name]; differs && bed.server.Owned {
					want = own[c.name]
				}
				if said != want {
					t.Errorf("%s\n%s", said, lineDiff(said, want))
				}
			})
		}
	})
	switch record := os.Getenv("BRIG_TEST_RECORD") != ""; {
	case record && !bed.server.Owned:
		got.write(t, recordDockerd, order, dockerd)
	case record:
		for name := range dockerd {
			if buildDiffers[name] == "" {
				got.said.Delete(name)
			}
		}
		got.write(t, recordBrig, order, own)
	}
}

// onlyResult leaves out how an image came about, for what is written by hand: what it is is left.
func onlyResult(said string) string {
	var kept []string
	for line := range strings.SplitSeq(said, "\n") {
		if !strings.HasPrefix(line, "out|") && !strings.HasPrefix(line, "history ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// allBuildCases are those of every topic.
func allBuildCases(t testing.TB) (all []buildCase) {
	t.Helper()
	files, err := filepath.Glob("testdata/build/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if filepath.Base(f) != "web.txt" {
			all = append(all, readCases(t, f)...)
		}
	}
	return all
}

// A buildRecord keeps what was said of each case; many add to it.
type buildRecord struct{ said sync.Map }

func (r *buildRecord) add(name, said string) { r.said.Store(name, said) }

// write puts what was said into a file, in an order, with what was there before of cases that have not been built now.
func (r *buildRecord) write(t *testing.T, file string, order []string, before map[string]string) {
	t.Helper()
	var b bytes.Buffer
	for _, name := range order {
		said, ok := r.said.Load(name)
		if !ok {
			said, ok = before[name]
		}
		if ok {
			fmt.Fprintf(&b, "== %s\n%s\n", name, said)
		}
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A buildWeb serves what Dockerfiles add by URL.
type buildWeb struct{ url string }

func newBuildWeb(t *testing.T) buildWeb {
	t.Helper()
	w := buildWeb{}
	var files []contextFile
	for _, c := range readCases(t, "testdata/build/web.txt") {
		files = append(files, c.files...)
	}
	dir := writeContext(t, files, w.fill)
	if reason := hostDiffers["git"]; reason != "" {
		t.Log("no repository: " + reason)
	} else if err := bareRepo(dir); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// bareRepo makes a git repository of what is in dir's folder "repo", to be read over HTTP without a program.
func bareRepo(dir string) error {
	when := contextTime.Format("2006-01-02T15:04:05Z")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", "repo"},
		{"-C", "repo", "add", "."},
		{"-C", "repo", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "first"},
		{"-C", "repo", "tag", "v1"},
		{"clone", "-q", "--bare", "repo", "repo.git"},
		{"-C", "repo.git", "update-server-info"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_AUTHOR_DATE="+when, "GIT_COMMITTER_DATE="+when, "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func (w buildWeb) fill(s string) string {
	return strings.NewReplacer("REG/", bed.reg+"/", "WEB/", w.url+"/").Replace(s)
}

// run builds the case and says what came of it.
func (c buildCase) run(t *testing.T, cli testbed.CLI, web buildWeb) string {
	dir := writeContext(t, c.files, web.fill)
	tag := "bt/" + c.name
	rounds := 1
	if c.twice {
		rounds = 2
	}
	var r testbed.Result
	for range rounds {
		r = c.build(t, cli, web, dir, tag)
	}
	t.Cleanup(func() {
		args := []string{"rmi", "-f", tag}
		for _, m := range taggedRE.FindAllStringSubmatch(r.Out, -1) {
			args = append(args, m[1])
		}
		dockerOn(t, cli, nil, args...)
		if m := runningRE.FindAllStringSubmatch(r.Out, -1); r.Code != 0 && len(m) > 0 { // a RUN that fails leaves its container
			dockerOn(t, cli, nil, "rm", "-f", m[len(m)-1][1])
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "exit %d\n", r.Code)
	b.WriteString(indented("out", web.steady(strings.ReplaceAll(r.Out, dir, "DIR"))))
	b.WriteString(indented("err", web.steady(strings.ReplaceAll(r.Err, dir, "DIR"))))
	if r.Code == 0 {
		b.WriteString(web.steady(describeImage(t, cli, tag)))
	}
	return strings.TrimRight(b.String(), "\n")
}

// What docker build says of names and containers.
var (
	taggedRE  = regexp.MustCompile(`Successfully tagged (\S+)\n`)
	runningRE = regexp.MustCompile(`Running in ([0-9a-f]{12})\n`)
)

// build has it built once.
func (c buildCase) build(t *testing.T, cli testbed.CLI, web buildWeb, dir, tag string) testbed.Result {
	t.Helper()
	if c.api != "" {
		query := web.fill(c.api) + "&t=" + tag
		if !c.cache {
			query += "&nocache=1"
		}
		return buildByAPI(t, cli.Host, query)
	}
	args := []string{"build", "-t", tag}
	if !c.cache {
		args = append(args, "--no-cache")
	}
	args = append(args, strings.Fields(strings.ReplaceAll(web.fill(c.args), "DIR/", dir+"/"))...)
	var stdin io.Reader
	switch c.stdin {
	case "Dockerfile":
		stdin = strings.NewReader(web.fill(c.files[0].body))
	case "tar":
		stdin = bytes.NewReader(contextTar(t, dir))
	}
	if c.stdin == "" || strings.Contains(c.args, "-f -") {
		args = append(args, dir)
	} else {
		args = append(args, "-")
	}
	return dockerOn(t, cli, stdin, args...)
}

// contextTar packs a directory as tar does.
func contextTar(t testing.TB, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// buildByAPI posts a build without a context and prints its messages as docker build would.
func buildByAPI(t testing.TB, host, query string) testbed.Result {
	t.Helper()
	client := testbed.Client(host)
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://d/v1.41/build?"+query, "application/x-tar", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := testbed.Result{Args: []string{"POST", query}}
	for d := json.NewDecoder(resp.Body); ; {
		var m struct {
			Stream, Error, Message string
			ErrorDetail            struct{ Code int }
		}
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return r
		} else if err != nil {
			t.Fatal(err)
		}
		r.Out += m.Stream
		if m.Error != "" || m.Message != "" {
			r.Err, r.Code = r.Err+m.Error+m.Message+"\n", max(1, m.ErrorDetail.Code)
		}
	}
}

// describeImage says what an image is.
func describeImage(t testing.TB, cli testbed.CLI, ref string) string {
	t.Helper()
	var inspected []map[string]any
	r := dockerOn(t, cli, nil, "image", "inspect", ref)
	if err := json.Unmarshal([]byte(r.Out), &inspected); err != nil || len(inspected) != 1 {
		return r.String()
	}
	var b strings.Builder
	for _, key := range []string{"Architecture", "Os", "Variant", "Author", "Comment"} {
		if v, _ := inspected[0][key].(string); v != "" {
			fmt.Fprintf(&b, "%s %s\n", strings.ToLower(key), v)
		}
	}
	config, _ := inspected[0]["Config"].(map[string]any)
	for _, line := range configLines(config) {
		b.WriteString("config " + line + "\n")
	}
	img := saved(t, cli, ref)
	bases := 0
	for _, h := range img.Config.History {
		if strings.HasPrefix(h.CreatedBy, "layer ") { // as integration/internal/images says
			bases++
			continue
		}
		fmt.Fprintf(&b, "history %q", h.CreatedBy)
		if h.EmptyLayer {
			b.WriteString(" empty")
		}
		fmt.Fprintf(&b, "%s%s\n", named(" author", h.Author), named(" comment", h.Comment))
	}
	fmt.Fprintf(&b, "layers %d+%d\n", bases, len(img.layers)-bases)
	base, err := flat(img.layers[:bases])
	if err != nil {
		t.Fatalf("base of %s: %v", ref, err)
	}
	tree, err := flat(img.layers)
	if err != nil {
		t.Fatalf("layers of %s: %v", ref, err)
	}
	b.WriteString(treeDiff(base, tree))
	return b.String()
}

func named(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%s=%q", name, value)
}

// configLines are a config's fields that say something, sorted. Image, the parent's ID, is left out: later daemons don't have it.
func configLines(config map[string]any) (lines []string) {
	for k, v := range config {
		if k == "Image" || saysNothing(v) {
			continue
		}
		j, err := json.Marshal(v)
		if err != nil {
			j = []byte(err.Error())
		}
		lines = append(lines, k+" "+string(j))
	}
	slices.Sort(lines)
	return lines
}

func saysNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func indented(name, s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(name + "|" + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

// buildRules are what changes from run to run.
var buildRules = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?s)DEPRECATED: The legacy builder.*?environment-variable\.\n+`), ""},
	{regexp.MustCompile(`(?m)^(?:Sending build context to Docker daemon +[0-9.]+ ?k?M?B\r*)+\n`), ""},
	{regexp.MustCompile(`\x1b\[0m\x1b\[91m`), ""},                 // where one write of stderr ends and another begins
	{regexp.MustCompile(`(?m)^(Step .* : ADD .*\n)\s*\n+`), "$1"}, // what is left of a download's progress
	{regexp.MustCompile(`/[^ ]*/overlay2/[0-9a-f]{64}/merged/`), "/"},
	{regexp.MustCompile(`\r`), `\r`},
	{regexp.MustCompile(`\x1b`), `\e`},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:<id>"},
	{regexp.MustCompile(`(file|dir|multi):[0-9a-f]{64}`), "$1:<sum>"},
	{regexp.MustCompile(`(\b|--chown=\S+?)[0-9a-f]{64}\b`), "$1<id>"},
	{regexp.MustCompile(`(?m)( ---> |Successfully built | ---> Running in |Removing intermediate container )[0-9a-f]{12}$`), "${1}<id>"},
	{regexp.MustCompile(`brig-it-[0-9]+|/var/lib/docker/tmp/docker-builder[0-9]+|/tmp/[A-Za-z0-9_/-]*docker-builder[0-9]+`), "<dir>"},
}

// steady replaces what changes from run to run.
func (w buildWeb) steady(s string) string {
	s = strings.NewReplacer(bed.reg+"/", "REG/", w.url+"/", "WEB/", w.url, "WEB").Replace(s)
	for _, r := range buildRules {
		s = r.re.ReplaceAllString(s, r.with)
	}
	return s
}
