package integration

import "net/url"

// apiBuildRows are builds that come to nothing: what they say while they run, TestBuildTable compares.
func apiBuildRows() (rows []apiRow) {
	const one = "context:FROM $IMAGE\n"
	for _, query := range []string{
		"t=UPPER", "t=a@sha256:0000000000000000000000000000000000000000000000000000000000000000", "t=%20", "t=a:b:c", "squash=1", "version=3", "version=x", "shmsize=x", "memory=x", "memory=1",
		"buildargs=x", "buildargs=[]", "buildargs={\"a\":1}", "labels=x", "labels={\"a\":1}", "cachefrom=x", "cachefrom={\"a\":1}", "ulimits=x", "ulimits=[{\"Name\":\"zz\",\"Soft\":1,\"Hard\":1}]",
		"securityopt=x", "isolation=hyperv", "isolation=zz", "platform=zz/zz/zz/zz", "outputs=x", "outputs=[{\"Type\":\"local\"}]", "extrahosts=x",
		"target=zz", "dockerfile=D", "dockerfile=../D",
	} {
		rows = append(rows, apiRow{do: "POST /build?" + query, body: one})
	}
	for _, query := range []string{
		"remote=client-session&session=abc", "remote=zz", "remote=ftp://x/y", "remote=http://127.0.0.1:1/x", "remote=" + url.QueryEscape("http://127.0.0.1:1/x.git"),
	} {
		rows = append(rows, apiRow{do: "POST /build?" + query})
	}
	for _, dockerfile := range []string{"", "FOO x\n", "RUN x\n", "FROM\n", "FROM $IMAGE\nCOPY x\n", "FROM $IMAGE\nENV\n", "# escape=x\nFROM $IMAGE\n"} {
		rows = append(rows, apiRow{do: "POST /build", body: "context:" + dockerfile})
	}
	rows = append(rows, apiRow{do: "POST /build"}, apiRow{do: "POST /build", body: "tar:nosuch"}, apiRow{do: "POST /build", body: "this is no archive"})
	for _, query := range []string{
		"keep-storage=x", "filters=x", "filters={\"zz\":[\"1\"]}", "filters={\"until\":[\"x\"]}", "filters={\"id\":[\"zz\"]}", "filters={\"unused-for\":[\"10000h\"]}",
	} {
		rows = append(rows, apiRow{do: "POST /build/prune?" + query})
	}
	return rows
}
