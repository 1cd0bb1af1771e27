package main

import (
	"strings"
	"testing"
)

// Three tests of which one has two subtests, a package that was killed, and a line that is no event.
const events = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestA"}
{"Action":"run","Package":"a","Test":"TestA/one"}
{"Action":"output","Package":"a","Test":"TestA/one","Output":"    a_test.go:3: no such thing\n"}
{"Action":"skip","Package":"a","Test":"TestA/one","Elapsed":0}
{"Action":"run","Package":"a","Test":"TestA/two"}
{"Action":"pass","Package":"a","Test":"TestA/two","Elapsed":0}
{"Action":"pass","Package":"a","Test":"TestA","Elapsed":0}
{"Action":"run","Package":"a","Test":"TestB"}
{"Action":"output","Package":"a","Test":"TestB","Output":"    a_test.go:9: it is so\n"}
{"Action":"fail","Package":"a","Test":"TestB","Elapsed":1.5}
{"Action":"fail","Package":"a","Elapsed":2}
{"Action":"run","Package":"b","Test":"TestC"}
{"Action":"output","Package":"b","Test":"TestC","Output":"half a "}
connection reset
`

func TestSummary(t *testing.T) {
	var out strings.Builder
	ok, err := summarize(strings.NewReader(events), &out)
	if err != nil || ok {
		t.Errorf("ok %v, %v", ok, err)
	}
	const want = `ok  a TestA (0.0s)
--- a TestB (1.5s)
    a_test.go:9: it is so
--- a as a whole (2.0s)
connection reset

  passed   failed  skipped
       1        1        1  a
       0        0        0  b: ended before its tests had
TestC said last:
half a 
skipped, no such thing: TestA/one
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if ok, err = summarize(strings.NewReader(""), &out); ok || err != nil {
		t.Errorf("nothing at all is ok: %v, %v", ok, err)
	}
}
