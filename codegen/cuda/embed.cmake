# cmake -DROOT=folder -DPATTERN=*.cuh -DFUNCTION=name -DOUT=file.cpp -P embed.cmake: the device files below ROOT as one
# C++ source, which function `name` gives.
file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/${PATTERN})
list(SORT files)
set(texts)
foreach(file ${files})
  file(READ ${ROOT}/${file} text)
  # Literals of limited length, which the compiler joins.
  string(LENGTH "${text}" length)
  string(APPEND texts "    {\"${file}\", std::string_view(")
  foreach(at RANGE 0 ${length} 8000)
    string(SUBSTRING "${text}" ${at} 8000 part)
    string(APPEND texts " R\"cuda(${part})cuda\"")
  endforeach()
  string(APPEND texts ")},\n")
endforeach()
file(WRITE ${OUT}.new "#include \"codegen/cuda/device_files.h\"\nnamespace tilewright {\nstd::span<const DeviceFile> ${FUNCTION}() {\n  static constexpr DeviceFile kFiles[] = {\n${texts}  };\n  return kFiles;\n}\n}\n")
file(COPY_FILE ${OUT}.new ${OUT} ONLY_IF_DIFFERENT)
