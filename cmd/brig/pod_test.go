package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/podspec"
)

// order reads a command line as brig pod run does.
func order(args ...string) (*ordering, error) {
	var o ordering
	cmd := &cobra.Command{Use: "run", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, args []string) error { return o.read(cmd, args) }}
	o.podFlags(cmd)
	cmd.SetArgs(args)
	return &o, cmd.Execute()
}

func TestPodGrammar(t *testing.T) {
	o, err := order("--name", "web", "-v", "data", "--shm-size", "1m", "-l", "k=v", "--dns", "10.0.0.1", "-a", "p=q",
		"nginx:1", "--name", "front", "-p", "http:8080", "-m", "data:/srv", "-e", "A=b", "-e", "C=d,e", "-a", "x=y", "--", "-g", "--name", "no option", "---",
		"example.com/log", "--exec", "/bin/tail", "-u", "1", "-g", "/etc", "--supplementary-gids", "5,6", "-w", "/w", "--readonly-rootfs", "--isolator", `resource/memory={"limit":"1M"}`, "-v", "more", "---", "third", "--")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(o.Order)
	want := `{"apps":[{"image":"nginx:1","name":"front","annotations":["x=y"],"mounts":["data:/srv"],"env":["A=b","C=d,e"],"args":["-g","--name","no option"]},` +
		`{"image":"example.com/log","exec":["/bin/tail"],"user":"1","group":"/etc","supplementaryGIDs":[5,6],"workingDirectory":"/w","readOnlyRootFS":true,"isolators":["resource/memory={\"limit\":\"1M\"}"]},` +
		`{"image":"third"}],"volumes":["data","more"],"ports":["http:8080"],"annotations":["p=q"],"name":"web","dns":["10.0.0.1"],"shmSize":1048576,"labels":{"k":"v"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, args := range map[string][]string{
		"no image: give one":              {},
		`unexpected "sh": arguments of`:   {"busybox", "sh"},
		`unexpected "x"`:                  {"busybox", "--name", "a", "x", "--", "y"},
		"an image is missing behind ---":  {"busybox", "---"},
		"an image is missing before":      {"busybox", "---", "--name", "x"},
		"unknown flag: --bogus":           {"busybox", "--bogus"},
		"image b: flag needs an argument": {"a", "---", "b", "--name"},
		"invalid size of /dev/shm":        {"--shm-size", "-1", "a"},
		"is none of missing, always":      {"--pull", "perhaps", "a"},
		"no such file":                    {"-f", "/nonexistent"},
	} {
		if _, err := order(args...); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, want %q", args, err, text)
		}
	}
}

// Lines come whole, with a time and the name in front, also long ones and a last one without its end.
func TestPrefixer(t *testing.T) {
	var out bytes.Buffer
	w := watching{out: &out, width: 5}
	p := w.lines("app", &out)
	for _, s := range []string{"one\ntw", "o\n", "\n", strings.Repeat("x", maxLine-1), "y", "z\nrest"} {
		if n, err := p.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	p.end()
	got := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\S+ `).ReplaceAllString(out.String(), "T ")
	if want := "T app   | one\nT app   | two\nT app   | \nT app   | " + strings.Repeat("x", maxLine-1) + "y\nT app   | z\nT app   | rest\n"; got != want {
		t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
	}
}

func TestPrefixerOfLogs(t *testing.T) {
	var out bytes.Buffer
	w := watching{out: &out, width: 1}
	l := &logged{w.lines("a", &out)}
	l.Write([]byte("2026-01-02T03:04:05.123456789Z first\n2026-01-02T03:"))
	l.Write([]byte("04:06Z \nodd\n2026-01-02T03:04:07Z last"))
	l.end()
	got := strings.Split(out.String(), "\n")
	if len(got) != 5 || got[0] != "2026-01-02T03:04:05.123Z a | first" || got[1] != "2026-01-02T03:04:06.000Z a | " || !strings.HasSuffix(got[2], " a | odd") || got[3] != "2026-01-02T03:04:07.000Z a | last" {
		t.Errorf("%q", got)
	}
}

func TestNotStarted(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "x": executable file not found in $PATH`: 127, "exec: /x: permission denied": 126, "network x not found": 125,
	} {
		var e *exitCode
		if err := notStarted(errors.New(text)); !errors.As(err, &e) || e.code != code || err.Error() != text {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNamedImage(t *testing.T) {
	o := ordering{}
	o.Apps = []podspec.AppOptions{{Image: "nginx"}, {Image: "reg.org/x:1"}, {Image: "sha512-abc"}, {Image: "UPPER"}}
	for missing, want := range map[string]string{"nginx:latest": "nginx", "reg.org/x:1": "reg.org/x:1", "other:latest": "", "UPPER": ""} {
		if got := o.named(missing); got != want {
			t.Errorf("%s: %q, want %q", missing, got, want)
		}
	}
}
