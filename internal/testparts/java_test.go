package testparts

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestJavaPrograms(t *testing.T) {
	t.Parallel()
	sources := fstest.MapFS{
		"Greeting.java": {Data: []byte(`public class Greeting {
  public static void main(String[] args) throws Exception {
    var in = Greeting.class.getResourceAsStream("words.txt");
    System.out.print(new String(in.readAllBytes()) + System.getProperty("whom") + args[0] + org.apache.kafka.common.Uuid.ZERO_UUID);
  }
}`)},
		"words.txt": {Data: []byte("hello ")},
	}
	for range 2 { // compiled, then found in the cache
		p, err := CompileJava(t.Context(), "kafka", sources)
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.Command(t.Context(), "Greeting", []string{"whom=world"}, "!").Output()
		if want := "hello world!AAAAAAAAAAAAAAAAAAAAAA"; string(out) != want || err != nil {
			t.Errorf("%q, %v, expected %q", out, err, want)
		}
	}
	bad := fstest.MapFS{"Bad.java": {Data: []byte("class Bad {\n  int x = nothing;\n}")}}
	if _, err := CompileJava(t.Context(), "kafka", bad); err == nil || !strings.Contains(err.Error(), "Bad.java:2") {
		t.Errorf("a program that is wrong: %v", err)
	}
}
