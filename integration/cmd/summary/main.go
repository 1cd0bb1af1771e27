// Summary reads what go test -json writes and says what came of the tests: each that passed, the output of those that failed, as soon as they have, and in the end
// how many passed, failed and were skipped, and why. It ends with 1 if anything failed, or if a package's tests came to no end.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is a line of test2json's.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type key struct{ pkg, test string }

// count is of one package.
type count struct {
	passed, failed, skipped int
	ended                   bool
}

func main() {
	ok, err := summarize(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// summarize counts tests and their subtests alike, but not a test that only has subtests to show for: those count.
func summarize(in io.Reader, out io.Writer) (ok bool, err error) {
	said, counts, skipped := map[key][]string{}, map[string]*count{}, map[string][]string{}
	parents := map[key]bool{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF && line == "" {
			break
		} else if err != nil && err != io.EOF {
			return false, err
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Fprint(out, line) // of a build, or of ssh
			continue
		}
		c := counts[e.Package]
		if c == nil {
			c = new(count)
			counts[e.Package] = c
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "run":
			if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
				parents[key{e.Package, e.Test[:i]}] = true
			}
		case "output":
			said[k] = append(said[k], e.Output)
		case "pass", "fail", "skip":
			c.end(e, parents[k])
			if e.Action == "fail" {
				fmt.Fprintf(out, "--- %s %s (%.1fs)\n%s", e.Package, cmp.Or(e.Test, "as a whole"), e.Elapsed, strings.Join(said[k], ""))
			}
			if e.Action == "pass" && e.Test != "" && !strings.Contains(e.Test, "/") {
				fmt.Fprintf(out, "ok  %s %s (%.1fs)\n", e.Package, e.Test, e.Elapsed)
			}
			if e.Action == "skip" && e.Test != "" {
				why := reason(said[k])
				skipped[why] = append(skipped[why], e.Test)
			}
			delete(said, k)
		}
	}
	return report(out, counts, skipped, said), nil
}

func (c *count) end(e event, parent bool) {
	if e.Test == "" {
		c.ended = true
		if e.Action == "fail" && c.failed == 0 {
			c.failed++ // before or after its tests
		}
		return
	}
	if parent {
		return
	}
	switch e.Action {
	case "pass":
		c.passed++
	case "fail":
		c.failed++
	default:
		c.skipped++
	}
}

// reason is what a skipped test has said.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		if _, why, found := strings.Cut(strings.TrimSpace(line), ".go:"); found {
			if _, why, found = strings.Cut(why, ": "); found {
				return why
			}
		}
	}
	return "no reason given"
}

func report(out io.Writer, counts map[string]*count, skipped map[string][]string, said map[key][]string) (ok bool) {
	ok = len(counts) > 0
	fmt.Fprintf(out, "\n%8s %8s %8s\n", "passed", "failed", "skipped")
	for _, pkg := range slices.Sorted(maps.Keys(counts)) {
		c := counts[pkg]
		fmt.Fprintf(out, "%8d %8d %8d  %s", c.passed, c.failed, c.skipped, pkg)
		if !c.ended {
			fmt.Fprint(out, ": ended before its tests had")
			for k, text := range said {
				if k.pkg == pkg {
					fmt.Fprintf(out, "\n%s said last:\n%s", cmp.Or(k.test, "it"), strings.Join(text, ""))
				}
			}
		}
		fmt.Fprintln(out)
		ok = ok && c.ended && c.failed == 0
	}
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(out, "skipped, %s: %s\n", why, strings.Join(skipped[why], ", "))
	}
	return ok
}
