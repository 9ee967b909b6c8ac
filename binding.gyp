{
  "variables": {
    "hawser_cflags": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fno-strict-aliasing"]
  },
  "target_defaults": {
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-exceptions", "-fno-rtti", "-O3"],
    "cflags_cc": ["<@(hawser_cflags)"]
  },
  "targets": [
    {
      "target_name": "hawser_native",
      "sources": ["<!@(ls native/addon/*.cc native/addon/lookup/*.cc)"],
      "include_dirs": ["native/addon"],
      "cflags_cc": ["-isystem", "<!(node -p \"require('path').dirname(require.resolve('node-addon-api'))\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "libraries": ["-lpthread"]
    },
    {
      "target_name": "hawser",
      "type": "executable",
      "sources": ["<!@(ls native/plugin/*.cc)"],
      "ldflags": ["-static"]
    },
    {
      # For tests: the same, in twenty times more of a hurry (native/plugin/patience.h).
      "target_name": "hawser-hasty",
      "type": "executable",
      "sources": ["<!@(ls native/plugin/*.cc)"],
      "defines": ["HAWSER_HASTE=20"],
      "ldflags": ["-static"]
    }
  ]
}
