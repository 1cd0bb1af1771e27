package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// Notes are the operator's, with the command that mends what they tell of, and no fault; faults are brig's.
func TestPrintFindings(t *testing.T) {
	note := brig.Finding{Check: "host", Subject: "racct", Problem: "it is off", Command: "turn it on", Note: true}
	plain := brig.Finding{Check: "host", Subject: "host", Problem: "it is slow", Note: true}
	fault := brig.Finding{Check: "blob", Subject: "x", Problem: "it is gone", Mend: "fetch it"}
	mended := fault
	mended.Mended = true
	for _, c := range []struct {
		name string
		all  []brig.Finding
		fix  bool
		want string
		bad  bool
	}{
		{"nothing", nil, false, "all is well\n", false},
		{"notes", []brig.Finding{note, plain}, false,
			"note: host racct: it is off\n  to mend it: turn it on\nnote: host: it is slow\nall is well with brig; the notes are about the host\n", false},
		{"a fault", []brig.Finding{fault, note}, false, "fault: blob x: it is gone\n  --fix would mend it: fetch it\nnote: host racct: it is off\n  to mend it: turn it on\n", true},
		{"mended", []brig.Finding{mended}, true, "fault: blob x: it is gone\n  mended: fetch it\nall is well\n", false},
	} {
		var out strings.Builder
		err := printFindings(&out, c.all, c.fix)
		if out.String() != c.want || errors.Is(err, errFindings) != c.bad {
			t.Errorf("%s: %v\n%s", c.name, err, out.String())
		}
	}
}
