package runtime

import (
	"reflect"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestMergeCommand(t *testing.T) {
	img := brig.ImageConfig{Entrypoint: []string{"ep"}, Cmd: []string{"cmd"}}
	for _, c := range []struct {
		name            string
		img             brig.ImageConfig
		entry, cmd      []string
		wantEp, wantCmd []string
		fails           bool
	}{
		{"nothing asked", img, nil, nil, []string{"ep"}, []string{"cmd"}, false},
		{"command", img, nil, []string{"x"}, []string{"ep"}, []string{"x"}, false},
		{"entrypoint drops the image's command", img, []string{"e"}, nil, []string{"e"}, nil, false},
		{"both", img, []string{"e"}, []string{"x"}, []string{"e"}, []string{"x"}, false},
		{"entrypoint reset", img, []string{""}, []string{"x"}, nil, []string{"x"}, false},
		{"entrypoint reset and no command", img, []string{""}, nil, nil, nil, true},
		{"none anywhere", brig.ImageConfig{}, nil, nil, nil, nil, true},
	} {
		got, err := merge(brig.Spec{Entrypoint: c.entry, Cmd: c.cmd}, &c.img)
		if c.fails {
			wantErr(t, c.name, err, errs.Invalid, "no command specified")
			continue
		}
		if err != nil || !slices.Equal(got.Entrypoint, c.wantEp) || !slices.Equal(got.Cmd, c.wantCmd) {
			t.Errorf("%s: %q %q, %v", c.name, got.Entrypoint, got.Cmd, err)
		}
	}
}

func TestMergeRest(t *testing.T) {
	img := brig.ImageConfig{
		Cmd: []string{"x"}, User: "u", WorkingDir: "/w", StopSignal: "SIGINT", Shell: []string{"sh"}, Env: []string{"PATH=/bin", "A=img", "GONE=1"},
		Labels: map[string]string{"a": "img", "b": "img"}, Volumes: []string{"/v"}, Exposed: []brig.Port{{Number: 80, Proto: "tcp"}},
		Health: &brig.HealthCheck{Test: []string{"CMD", "t"}, Retries: 3, Interval: 5},
	}
	req := brig.Spec{Env: []string{"A=req", "GONE"}, Labels: map[string]string{"a": "req"}, Volumes: []string{"/v", "/q"}, Health: &brig.HealthCheck{Interval: 9}}
	got, err := merge(req, &img)
	if err != nil {
		t.Fatal(err)
	}
	want := brig.Spec{
		Cmd: []string{"x"}, User: "u", WorkingDir: "/w", StopSignal: "SIGINT", Shell: []string{"sh"}, Env: []string{"A=req", "GONE", "PATH=/bin"},
		Labels: map[string]string{"a": "req", "b": "img"}, Volumes: []string{"/v", "/q"}, Exposed: img.Exposed,
		Health: &brig.HealthCheck{Test: []string{"CMD", "t"}, Retries: 3, Interval: 9},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTmpfsOptions(t *testing.T) {
	for _, c := range []struct {
		mt   brig.Mount
		want []string
	}{
		{brig.Mount{}, []string{"noexec", "nosuid", "nodev"}},
		{brig.Mount{TmpfsOpts: "rw,exec,size=1m"}, []string{"nosuid", "nodev", "rw", "exec", "size=1m"}},
		{brig.Mount{TmpfsOpts: "rw,size=1m,size=2m", ReadOnly: true}, []string{"noexec", "nosuid", "nodev", "size=2m", "ro"}},
		{brig.Mount{TmpfsSize: 4096, TmpfsMode: 0o1770}, []string{"noexec", "nosuid", "nodev", "size=4096", "mode=1770"}},
	} {
		if got := tmpfsOptions(c.mt); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.mt, got, c.want)
		}
	}
}

func TestParsePs(t *testing.T) {
	out := "UID   PID  PPID CMD\nroot    7     1 sleep 100  200\nroot   77     1 other\nshort\n"
	p, err := parsePs(out, []int{7})
	want := brig.Processes{Titles: []string{"UID", "PID", "PPID", "CMD"}, Rows: [][]string{{"root", "7", "1", "sleep 100  200"}}}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v, %v", p, err)
	}
}
