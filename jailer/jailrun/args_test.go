package jailrun

import (
	"slices"
	"testing"

	"github.com/brigd/brig/jailer/jailspec"
)

func TestArgs(t *testing.T) {
	for _, o := range []Options{
		{Verb: "run", Name: "net.brig-1-2", Log: "l", PidFile: "p", Console: "c"},
		{Verb: "exec", Name: "n", Log: "l", PidFile: "p", Process: "f.json"},
	} {
		if got, err := Parse(o.Args()); err != nil || got != o {
			t.Errorf("%+v: %+v %v", o, got, err)
		}
	}
	for _, bad := range [][]string{nil, {"run"}, {"kill", "n"}, {"run", "--log", "l", "n"}, {"run", "--pid-file", "n"}, {"exec", "--pid-file", "p", "n"}, {"run", "--what", "x", "--pid-file", "p", "n"}, {"run", "--pid-file", "p", "-n"}} {
		if o, err := Parse(bad); err == nil {
			t.Errorf("%q: %+v", bad, o)
		}
	}
}

func TestCandidates(t *testing.T) {
	p := &jailspec.Process{Args: []string{"sh"}, Env: []string{"PATH=/a", "PATH=/b/::/c", "X=y"}}
	if got := candidates(p); !slices.Equal(got, []string{"/b/sh", "./sh", "/c/sh"}) {
		t.Error(got)
	}
	p.Args[0] = "./x"
	if got := candidates(p); !slices.Equal(got, []string{"./x"}) {
		t.Error(got)
	}
}
