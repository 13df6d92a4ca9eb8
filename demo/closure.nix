# The six paths of the demonstration: small, with references, one of them large enough to show
# what happens when its body arrives corrupted.
{ photo }:
let
  path =
    name: attrs: script:
    derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [ "-euc" script ];
        PATH = "/bin:/usr/bin";
        LC_ALL = "C";
      }
      // attrs
    );
  licence = builtins.toFile "demo-licence.txt" "Do with this what you like.\n";
in
rec {
  words = path "demo-words-1.0" { } ''
    mkdir -p $out/share
    seq 1 60000 | while read n; do echo "word-$n"; done > $out/share/words
  '';
  photo' = path "demo-photo-2026" { source = builtins.path { path = photo; name = "photo"; }; } ''
    mkdir -p $out/share
    cp $source $out/share/snow.raw
  '';
  hello = path "demo-hello-2.12" { inherit words licence; } ''
    mkdir -p $out/bin $out/share
    printf '#!/bin/sh\nhead -n 1 %s/share/words\n' "$words" > $out/bin/hello
    chmod 755 $out/bin/hello
    ln -s $licence $out/share/LICENCE
  '';
  viewer = path "demo-viewer-0.3" { inherit hello; photo = photo'; } ''
    mkdir -p $out/bin
    printf '#!/bin/sh\nexec %s/bin/hello "%s"\n' "$hello" "$photo" > $out/bin/view
    chmod 755 $out/bin/view
  '';
  desktop = path "demo-desktop" { inherit hello viewer; } ''
    mkdir $out
    ln -s $hello/bin/hello $out/hello
    ln -s $viewer/bin/view $out/view
  '';
}
