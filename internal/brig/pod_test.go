package brig

import "testing"

func TestPodUUID(t *testing.T) {
	const id = ID("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	if got := PodUUID(id); got != "01234567-89ab-4def-8123-456789abcdef" {
		t.Error(got)
	}
	if got := PodUUID("ab"); got != "00000000-0000-0000-0000-000000000000" {
		t.Error(got)
	}
	if got := (&Container{ID: id}).PodUUID(); got != PodUUID(id) {
		t.Errorf("a container by itself is the pod %s", got)
	}
	p := Pod{ID: NewID()}
	if got := (&Container{ID: id, Pod: p.UUID(), App: "a"}).PodUUID(); got != p.UUID() {
		t.Errorf("an app of pod %s is in the pod %s", p.UUID(), got)
	}
}
