package dockerapi

import (
	"net/http"
	"strings"
	"testing"
)

func TestACIImport(t *testing.T) {
	d := newDaemon(t)
	const path = "/brig/v1/images/import"
	got := d.want(t, http.StatusCreated, "POST", path, strings.NewReader("good"))
	if want := `"ACI":"sha512-00","Name":"example.com/x","Ref":"example.com/x:1","Warnings":[]`; !strings.Contains(got, want) {
		t.Errorf("%s, want it to have %s", got, want)
	}
	if got := d.message(t, http.StatusBadRequest, "POST", path, strings.NewReader("broken")); got != "invalid ACI: it has no manifest" {
		t.Errorf("message %q", got)
	}
}
