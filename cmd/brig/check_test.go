package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/elfcheck"
)

// A server's image starts a script, so that its verdict is the script's: the server that will not run has to be named beside it.
func TestReportNamesWhatWillNotRun(t *testing.T) {
	r := &elfcheck.Report{Verdict: elfcheck.WillRun, Entry: []elfcheck.File{{Path: "/bin/sh", Verdict: elfcheck.WillRun}},
		Others: []elfcheck.File{{Path: "/bin/slow", Verdict: elfcheck.Degraded},
			{Path: "/lib/server", Verdict: elfcheck.WillNot, Reasons: []elfcheck.Reason{{Verdict: elfcheck.WillNot, What: "signalfd", Why: "signals by descriptor"}}}},
		All: elfcheck.Counts{WillRun: 3, Degraded: 1, WillNot: 1}}
	printed := func(all bool) string {
		var b strings.Builder
		printReport(&b, r, all)
		return b.String()
	}
	got := printed(false)
	if !strings.Contains(got, "/lib/server") || !strings.Contains(got, "! signalfd") || strings.Contains(got, "/bin/slow") {
		t.Errorf("printed without --all:\n%s", got)
	}
	if got := printed(true); !strings.Contains(got, "/lib/server") || !strings.Contains(got, "/bin/slow") {
		t.Errorf("printed with --all:\n%s", got)
	}
	// An image for another machine would fill the screen.
	for i := range named {
		r.Others = append(r.Others, elfcheck.File{Path: fmt.Sprint("/bin/", i), Verdict: elfcheck.WillNot})
		r.All.WillNot++
	}
	if got := printed(false); strings.Contains(got, "/lib/server") || !strings.Contains(got, "--all names them") {
		t.Errorf("printed of many:\n%s", got)
	}
}
