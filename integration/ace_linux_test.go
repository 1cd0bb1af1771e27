package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// validator builds appc's own validator of an App Container Executor (github.com/appc/spec/ace) into the two ACIs that its authors make of it,
// with their actool, and imports them. It returns docker's names of main and sidekick.
func validator(t *testing.T) (main, sidekick string) {
	t.Helper()
	dir := t.TempDir()
	tool := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = "docker2aci", append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tool("go", "build", "-o", dir+"/", "github.com/appc/spec/ace", "github.com/appc/spec/actool")
	source := filepath.Join(tool("go", "list", "-m", "-f", "{{.Dir}}", "github.com/appc/spec"), "ace")
	refs := map[string]string{}
	for _, name := range []string{"main", "sidekick"} {
		template, err := os.ReadFile(filepath.Join(source, "image_manifest_"+name+".json.in"))
		if err != nil {
			t.Fatal(err)
		}
		layout := filepath.Join(dir, name)
		arch := map[string]string{"arm64": "aarch64"}[runtime.GOARCH]
		manifest := strings.NewReplacer("@ACI_OS@", runtime.GOOS, "@ACI_ARCH@", cmp.Or(arch, runtime.GOARCH)).Replace(string(template))
		must(t, os.MkdirAll(filepath.Join(layout, "rootfs/opt/acvalidator"), 0o755))
		must(t, os.WriteFile(filepath.Join(layout, "manifest"), []byte(manifest), 0o644))
		must(t, os.Link(filepath.Join(dir, "ace"), filepath.Join(layout, "rootfs/ace-validator")))
		aci := filepath.Join(dir, name+".aci")
		tool(filepath.Join(dir, "actool"), "build", layout, aci)
		_, refs[name] = imported(t, aci)
	}
	return refs["main"], refs["sidekick"]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// validate runs the validator in one pod and returns what it says is wrong; "" for nothing.
func validate(t *testing.T, main, sidekick, pod string) string {
	out, good := brigRun(t, "pod", "run", "--name", pod, "--strict", "-v", "database", "-a", "lorem=ipsum", main, "-a", "lorem=dolor", "---", sidekick)
	defer brigRun(t, "pod", "rm", "-f", pod)
	for app, lines := range map[string][]string{"ace-validator-main": {"prestart OK", "main OK", "poststop OK"}, "ace-validator-sidekick": {"sidekick OK"}} {
		r := docker(t, "logs", pod+"-"+app)
		for _, l := range lines {
			good = good && slices.Contains(strings.Split(r.Out, "\n"), l)
		}
		good = good && r.Err == ""
		out += fmt.Sprintf("\n%s: %s%s", app, r.Out, r.Err)
	}
	t.Log(out)
	if good {
		return ""
	}
	return out
}

// TestACE has appc's validator look at a pod from inside: environment, working directory, mounts, event handlers in their order, user, volumes that
// apps share, and all of the metadata service, each answer within 100 ms.
func TestACE(t *testing.T) {
	own(t)
	main, sidekick := validator(t)
	if wrong := validate(t, main, sidekick, "ace"); wrong != "" {
		t.Error(wrong)
	}
}

// TestACEWhileOthersComeAndGo repeats it while other containers start and stop all the time. BRIG_ACE_ROUNDS and BRIG_ACE_OTHERS say how often and how many.
func TestACEWhileOthersComeAndGo(t *testing.T) {
	own(t)
	rounds, others := number("BRIG_ACE_ROUNDS", 2), number("BRIG_ACE_OTHERS", 5)
	main, sidekick := validator(t)
	busy := churn(t, others)
	for n := range rounds {
		if wrong := validate(t, main, sidekick, "ace"+strconv.Itoa(n)); wrong != "" {
			t.Errorf("round %d of %d: %s", n+1, rounds, wrong)
		}
	}
	if starts := busy(); starts < int64(rounds) {
		t.Errorf("the others were started %d times only", starts)
	} else {
		t.Logf("%d rounds, while %d containers were started %d times", rounds, others, starts)
	}
}

func number(variable string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return def
}

// churn starts and stops n containers over and over, each by itself, until end, which returns how often they were started.
func churn(t *testing.T, n int) (end func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	client := testbed.Client(bed.server.Host)
	var working sync.WaitGroup
	var starts atomic.Int64
	post := func(path string, body any) (map[string]any, error) {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d"+path, bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if resp.StatusCode >= 400 {
			return nil, fmt.Errorf("%s: %s", path, said)
		}
		var out map[string]any
		json.Unmarshal(said, &out) // not every answer has a body
		return out, err
	}
	for range n {
		made, err := post("/containers/create", map[string]any{"Image": image("busybox"), "Cmd": []string{"sleep", "1000"}})
		must(t, err)
		id := made["Id"].(string)
		t.Cleanup(func() { docker(t, "rm", "-f", id) })
		working.Go(func() {
			for ctx.Err() == nil {
				for _, verb := range []string{"/start", "/stop?t=0"} {
					if _, err := post("/containers/"+id+verb, nil); err != nil && ctx.Err() == nil {
						t.Errorf("another container: %v", err)
						return
					}
				}
				starts.Add(1)
			}
		})
	}
	stop := sync.OnceFunc(func() { cancel(); working.Wait() })
	t.Cleanup(stop)
	return func() int64 { stop(); return starts.Load() }
}
