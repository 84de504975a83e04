/* Loads the plug-in of plugin.c, binds all of its symbols, and calls it. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  void *plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  void *symbol = plugin ? dlsym(plugin, "rwwce_plugin_loss") : NULL;
  if (!symbol) {
    fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: load PLUGIN");
    return 1;
  }
  float (*plugin_loss)(void);
  memcpy(&plugin_loss, &symbol, sizeof plugin_loss);
  const float loss = plugin_loss();
  printf("log 2 is %.9g\n", loss);
  return loss > 0.693147f && loss < 0.693148f ? 0 : 1;
}
