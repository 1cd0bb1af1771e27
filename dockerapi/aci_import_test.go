package dockerapi

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestACIImport(t *testing.T) {
	d := newDaemon(t)
	const path = "/brig/v1/images/import"
	got := d.want(t, http.StatusOK, "POST", path, strings.NewReader("good"))
	if want := `"ACI":"sha512-00","Name":"example.com/x","Ref":"example.com/x:1","Signers":null,"Warnings":[]`; !strings.Contains(got, want) {
		t.Errorf("%s, want it to have %s", got, want)
	}
	if got := d.message(t, http.StatusBadRequest, "POST", path, strings.NewReader("broken")); got != "invalid ACI: it has no manifest" {
		t.Errorf("message %q", got)
	}
	got = d.want(t, http.StatusOK, "POST", path+"?from=a.org/b:1,os=linux&insecure=1&discover=1", nil)
	if want := `a.org/b:1,os=linux \"\" true true`; !strings.Contains(got, want) {
		t.Errorf("%s, want it to have %s", got, want)
	}
	got = d.want(t, http.StatusOK, "POST", path+"?from=late", nil)
	if want := `{"ID":"x","Status":"Downloading","Current":1,"Total":2}` + "\n" + `{"Error":"the server went away"}` + "\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestACISignature(t *testing.T) {
	d := newDaemon(t)
	for header, want := range map[string]string{"c2ln": `\"sig\" false false`, "?": "is no base64", "=": "is no base64"} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://brig/brig/v1/images/import", strings.NewReader("good"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Brig-Signature", header)
		resp, err := d.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %s, want it to have %s", header, got, want)
		}
	}
}

func TestACIExportLayered(t *testing.T) {
	d := newDaemon(t)
	if got := d.want(t, http.StatusOK, "GET", "/brig/v1/images/app/acis", nil); got != "tar" {
		t.Errorf("%q", got)
	}
	if got := d.message(t, http.StatusNotFound, "GET", "/brig/v1/images/x/acis", nil); got != "No such image: x" {
		t.Errorf("%q", got)
	}
}

func TestTrustRoutes(t *testing.T) {
	d := newDaemon(t)
	const path = "/brig/v1/trust"
	if got := d.want(t, http.StatusOK, "GET", path, nil); got != "[]\n" {
		t.Errorf("%q", got)
	}
	if got := d.want(t, http.StatusOK, "POST", path+"/find", strings.NewReader(`{"Prefix":"a.org/","URL":"u/","Insecure":true}`)); !strings.Contains(got, `"Fingerprint":"a.org/u/true"`) {
		t.Error(got)
	}
	if got := d.want(t, http.StatusOK, "POST", path+"/find", strings.NewReader(`{"Raw":"YWI="}`)); !strings.Contains(got, `"Fingerprint":"ab"`) {
		t.Error(got)
	}
	for _, bad := range []string{`{"Key":"ab"}`, `{"Key":"ab","Prefix":"a.org","Root":true}`, ``, `[]`} {
		d.message(t, http.StatusBadRequest, "POST", path, strings.NewReader(bad))
	}
	d.want(t, http.StatusCreated, "POST", path, strings.NewReader(`{"Key":"ab","Prefix":"a.org"}`))
	d.want(t, http.StatusCreated, "POST", path, strings.NewReader(`{"Key":"cd","Root":true}`))
	if got := d.want(t, http.StatusOK, "GET", path, nil); strings.Count(got, "Fingerprint") != 2 {
		t.Error(got)
	}
	d.message(t, http.StatusBadRequest, "DELETE", path+"/ab", nil)
	d.want(t, http.StatusNoContent, "DELETE", path+"/ab?prefix=a.org", nil)
	d.message(t, http.StatusNotFound, "DELETE", path+"/ab?prefix=a.org", nil)
	d.want(t, http.StatusNoContent, "DELETE", path+"/cd?root=1", nil)
}
